"""A stream needs the same memory whatever its length."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import forks
import pytest

SCRIPT = Path(__file__).parent / "memory_of_streams.py"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["iterator", "tf.data"])
def test_memory_does_not_grow_with_the_stream(kind: str) -> None:
    """Samples of 10 GB have the peak of 1 GB within 100 MiB, and the state of the source does not grow."""
    done = forks.run([sys.executable, str(SCRIPT), kind, "1024", "10240"], env=dict(os.environ), timeout=600)
    assert done.returncode == 0, done.stderr
    (short, small), (long, large) = json.loads(done.stdout.splitlines()[-1])
    assert long < short + 100
    assert large <= small + 16
