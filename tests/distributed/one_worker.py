"""One of several workers, without TensorFlow: runs the action of its first argument, and prints its results as JSON."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from typing import Any, TextIO

import ml_dtypes
import numpy as np

from aipcore.distributed.cluster import SECRET, Cluster
from aipcore.distributed.process_group import ProcessGroup
from aipcore.distributed.rendezvous import Tell, meet
from aipcore.errors import AipError, DataError


def talk(processes: ProcessGroup) -> dict[str, Any]:
    """Use every kind of exchange."""
    index = processes.index
    halves = np.array([index, 0.5], ml_dtypes.bfloat16)
    own = {f"n{index}": np.full((2, index), index, np.int16), "scalar": np.float64(index), f"half{index}": halves}
    gathered = processes.gather_arrays("arrays", own)
    everywhere = processes.broadcast_arrays("again", {"a": np.arange(3) + index})
    return {
        "chief": processes.is_chief,
        "broadcast": processes.broadcast("seed", 100 + index),
        "exchange": processes.exchange("numbers", [index, float("nan") if index else None, 1e-300]),
        "gathered": [
            sorted((name, a.dtype.name, a.shape, a.tolist()) for name, a in each.items()) for each in gathered
        ],
        "everywhere": everywhere["a"].tolist(),
        "apart": processes.folder(None).name.startswith("aip-worker-"),
    }


def knock(port: int) -> None:
    """Request a web page from the chief as soon as it listens."""
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port)) as stranger:
                stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
                return
        except ConnectionRefusedError:
            time.sleep(0.05)


def print_to(stream: TextIO, line: str) -> None:
    """Write a line."""
    stream.write(line + "\n")


def act(processes: ProcessGroup, what: str) -> Any:
    """Run one action."""
    if what == "talk":
        return talk(processes)
    if what == "differ":
        processes.require_same({"trainer.epochs": 2 + processes.index // 2, "same": 1})
    if what == "stray":
        processes.exchange("here" if processes.index else "there", 1)
    if what.startswith("kill") and processes.index == int(what[-1]):
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "raise" and processes.index == 1:
        raise DataError("Sample 3 is broken.")
    if what == "bad":
        raise DataError("Sample 3 is broken.")
    time.sleep(60)  # Simulates a collective operation that waits for a lost worker.
    return None


def main() -> int:
    """Meet the other workers, and end as `aip` does."""
    what, index, timeout, *addresses = sys.argv[1:]
    if what == "knock" and index == "1":
        knock(int(addresses[0].rpartition(":")[2]))
        what = "talk"
    tell = Tell(
        note=lambda text: print_to(sys.stdout, f"note: {text}"),
        last_words=lambda text: print_to(sys.stderr, f"last: {text}"),
    )
    try:
        with meet(Cluster(tuple(addresses), int(index), os.environ[SECRET]), float(timeout), tell) as processes:
            sys.stdout.write(json.dumps(act(processes, "talk" if what == "knock" else what)) + "\n")
    except AipError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
