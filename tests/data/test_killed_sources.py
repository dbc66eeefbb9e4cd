"""A process that is killed while it reads any kind of data is resumed bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import forks
import pytest
from sources import BATCH, BATCHED, KINDS, SAMPLES

SCRIPT = Path(__file__).parent / "killed_source.py"
EPOCHS = 3


def process(kind: str, folder: Path, *what: object) -> subprocess.CompletedProcess[str]:
    """Run `killed_source.py`."""
    return forks.run(
        [sys.executable, str(SCRIPT), kind, str(folder), *map(str, what)],
        env={**os.environ, "HF_DATASETS_CACHE": str(folder.parent / "cache"), "HF_HUB_OFFLINE": "1"},
    )


def result(kind: str, folder: Path, what: str) -> dict[str, Any]:
    """Return the weights and the history of a process that must end well."""
    done = process(kind, folder, what)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_kill_and_resume(kind: str, tmp_path: Path) -> None:
    """A run killed within an epoch, at a batch drawn at random, gets the weights and the history of a whole one."""
    steps = -(-SAMPLES // (BATCH if kind in BATCHED else 16))
    batches = random.randrange(3, EPOCHS * steps - 3)
    whole = result(kind, tmp_path / "whole", "whole")
    killed = process(kind, tmp_path / "killed", "killed", steps, batches)
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    resumed = result(kind, tmp_path / "killed", "resumed")
    assert whole.pop("begun") == [0, 0]
    assert resumed.pop("begun")[1] > 0
    assert resumed == whole, f"killed after {batches} batches"
