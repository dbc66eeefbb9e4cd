"""Runs that are killed with SIGKILL at random moments and resumed are bit-identical to an uninterrupted run."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from kills import Runs, finish, outcome

SLOW = pytest.mark.slow

STEPS = ("--trainer.val_every_steps", "8", "--trainer.log_every_steps", "3", "--trainer.max_steps", "150")
"""Validations within epochs, values by update, and an end within an epoch of 31 updates."""

FEW = 3
"""Kills in the test that always runs."""


@pytest.mark.parametrize(
    ("kills", "trackers", "words"),
    [
        pytest.param(FEW, False, (), id="few"),
        pytest.param(7, False, (), id="one process", marks=SLOW),
        # With trackers, a process takes three times as long.
        pytest.param(5, True, (), id="trackers", marks=SLOW),
        pytest.param(6, False, ("--data.workers", "2"), id="2 data workers", marks=SLOW),
        pytest.param(6, False, ("--trainer.jit_compile", "on"), id="XLA", marks=SLOW),
        pytest.param(6, False, STEPS, id="steps", marks=SLOW),
    ],
)
def test_kill_and_resume(
    kills: int, trackers: bool, words: tuple[str, ...], tmp_path: Path, request: Any, capsys: Any
) -> None:
    """Variables, history, callback states, CSV files, TensorBoard points, best and exported model are bit-identical."""
    runs = Runs(tmp_path, *words, trackers=trackers, forked=True)
    killed = runs.kill(kills, seed=kills)
    with capsys.disabled():
        print("\n" + killed.row(request.node.callspec.id))  # noqa: T201 - the table of all configurations
    assert killed.differences == []


@pytest.mark.slow
def test_kill_with_a_measured_choice(tmp_path: Path) -> None:
    """A resumed run, or a copy of it, keeps the compilation mode that was measured before the first batch."""
    runs = Runs(tmp_path, "--trainer.tune", "auto", forked=True, reference=False)
    process = runs.start("killed-0")
    runs.until(process, (tmp_path / "killed-0" / "checkpoint" / "step-0000000000").exists)
    process.kill()
    process.communicate()
    shutil.copytree(tmp_path / "killed-0", tmp_path / "copy")
    began = time.monotonic()
    finish(runs.start("copy"))
    runs.start_seconds = runs.train_seconds = (time.monotonic() - began) / 2
    runs.expected = outcome(tmp_path / "copy")
    killed = runs.kill(3, seed=1, most_runs=1)
    assert killed.differences == []
