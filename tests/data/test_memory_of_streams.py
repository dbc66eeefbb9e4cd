"""A stream needs the same memory whatever its length."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import forks
import pytest

from aipcore.data.stream_positions import KEPT_BYTES, MOST_STATES

SCRIPT = Path(__file__).parent / "memory_of_streams.py"


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "largest"), [("iterator", 8), ("tf.data", 18 * 2**20)])
def test_memory_does_not_grow_with_the_stream(kind: str, largest: int) -> None:
    """The second 5 GB of a stream need the memory of the first, within 64 MiB and the kept states, which stay small.

    The state of a `tf.data.Dataset` contains the samples of its parallel calls and of a batch in progress. How many
    states are kept depends on the speed of training.
    """
    done = forks.run([sys.executable, str(SCRIPT), kind, "10", "1024"], env=dict(os.environ), timeout=600)
    assert done.returncode == 0, done.stderr
    peaks, states = zip(*json.loads(done.stdout.splitlines()[-1]), strict=True)
    states_mib = min(KEPT_BYTES, MOST_STATES * largest) // 2**20
    assert max(peaks[5:]) < max(peaks[:5]) + 64 + states_mib, peaks
    assert max(states) <= largest
