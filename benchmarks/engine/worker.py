"""Peers of one framework on one task. Each input line is the name of a peer, whose turn it is.

The answer is a line of JSON with the seconds of an epoch, the first time with the seconds to its first update, and with
the CPU seconds of this process.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine import keras_peers, other_peers
from engine.models import BY_HAND, FIT, JAX, TORCH, all_tasks

PEERS = {
    "aip": keras_peers.aip,
    FIT[0]: partial(keras_peers.fit, many=False, jit="auto"),
    FIT[1]: partial(keras_peers.fit, many=True, jit=False),
    FIT[2]: partial(keras_peers.fit, many=False, jit=True),
    FIT[3]: partial(keras_peers.fit, many=True, jit=True),
    BY_HAND[0]: partial(keras_peers.by_hand, jit=False),
    BY_HAND[1]: partial(keras_peers.by_hand, jit=True),
    TORCH[0]: partial(other_peers.pytorch, compiled=False),
    TORCH[1]: partial(other_peers.pytorch, compiled=True),
    TORCH[2]: other_peers.lightning,
    JAX[0]: keras_peers.jax_scan,
}
"""Peers by name: functions from a task to a generator of seconds."""


def main() -> None:
    """Run until the input ends."""
    task = all_tasks()[sys.argv[1]]
    running: dict[str, Iterator[float]] = {}
    for line in sys.stdin:
        name, begun = line.strip(), time.process_time()
        try:
            if name not in running:
                running[name] = PEERS[name](task)
            answer: dict[str, object] = {"seconds": next(running[name])}
            answer["cpu_seconds"] = time.process_time() - begun
        except Exception as error:
            answer = {"skipped": f"{type(error).__name__}: {error}".partition("\n")[0][:200]}
        sys.stdout.write("@" + json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
