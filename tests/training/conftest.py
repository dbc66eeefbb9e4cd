"""Small scenarios, and a real TensorBoard."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from small_scenarios import Blobs, NoisyBlobs


@pytest.fixture
def blobs_class() -> type[Blobs]:
    """Return the deterministic scenario."""
    return Blobs


@pytest.fixture
def noisy_class() -> type[NoisyBlobs]:
    """Return the scenario with dropout and batch normalisation."""
    return NoisyBlobs


@pytest.fixture
def tensorboard() -> Callable[[Path], AbstractContextManager[str]]:
    """Return a context manager that starts TensorBoard on a folder and a free port, gives its address, and stops it."""
    return _tensorboard


@contextmanager
def _tensorboard(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--load_fast", "false"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    # A TensorBoard process that prints nothing is killed after 120 s.
    timer = threading.Timer(120, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if found := re.search(r" at (http://127\.0\.0\.1:\d+)/", line):
                yield found[1]
                return
        pytest.fail("TensorBoard did not start: " + "".join(said))
    finally:
        timer.cancel()
        process.kill()
        process.communicate()
