"""One peer on one task. Answers each input line with a line of JSON, the first one after its first update."""

from __future__ import annotations

import json
import resource
import sys
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine import keras_peers, other_peers

PEERS = {
    "aip": keras_peers.aip,
    "Model.fit": keras_peers.fit,
    "Model.fit, 50 steps per call": partial(keras_peers.fit, steps_per_execution=50, jit_compile=False),
    "Model.fit, XLA": partial(keras_peers.fit, jit_compile=True),
    "by hand, graph": partial(keras_peers.by_hand, jit=False),
    "by hand, XLA": partial(keras_peers.by_hand, jit=True),
    "PyTorch": partial(other_peers.pytorch, compiled=False),
    "PyTorch, compiled": partial(other_peers.pytorch, compiled=True),
    "Lightning": other_peers.lightning,
    "JAX scan": other_peers.jax_scan,
}
"""Peers by name: functions from the name of a task to a generator of seconds."""


def main() -> None:
    """Run until the input ends."""
    task, peer = sys.argv[1:]
    begun = time.perf_counter()
    try:
        measured = PEERS[peer](task)
        for _ in sys.stdin:
            seconds = next(measured)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            answer = {"seconds": seconds, "peak_mib": peak, "since_start": time.perf_counter() - begun}
            sys.stdout.write("@" + json.dumps(answer) + "\n")
            sys.stdout.flush()
    except ImportError as error:
        sys.stdout.write("@" + json.dumps({"skipped": str(error)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
