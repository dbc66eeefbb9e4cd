"""Distributed runs that are killed with SIGKILL at random moments and resumed, as in `test_kill`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from kills import Runs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "words"),
    [(1, ("--device.cpus", "2", "--device.strategy", "mirror")), (2, ())],
    ids=["2-device mirror", "2 worker processes"],
)
def test_kill_and_resume(workers: int, words: tuple[str, ...], tmp_path: Path, request: Any, capsys: Any) -> None:
    """Everything that the run leaves is bit-identical to that of an uninterrupted run."""
    killed = Runs(tmp_path, *words, workers=workers, forked=True).kill(6, seed=8)
    with capsys.disabled():
        print("\n" + killed.row(request.node.callspec.id))  # noqa: T201 - the table of all configurations
    assert killed.differences == []
