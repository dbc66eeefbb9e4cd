"""Measurement of a run's peak memory."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import tensorflow as tf

from aipcore.training.reporter import PeakMemory


def peak_memory(workers: Sequence[int]) -> PeakMemory:
    """Return the memory of this process, of its worker processes, and on GPUs, up to now.

    Args:
        workers: the ids of the worker processes, which must still be running.
    """
    shares = [share for share in (_status(f"/proc/{each}/smaps_rollup", "Pss") for each in workers) if share]
    gpus = {}
    for device in tf.config.list_logical_devices("GPU"):
        name = device.name.removeprefix("/device:")
        # Not every allocator of TensorFlow keeps statistics.
        with suppress(ValueError):
            gpus[name] = int(tf.config.experimental.get_memory_info(name)["peak"])
    # Memory that workers share with this process belongs to this process.
    shared = _status("/proc/self/status", "RssShmem") - _status("/proc/self/smaps_rollup", "Pss_Shmem")
    workers_only = max(0, sum(shares) - shared)
    return PeakMemory(process=_peak(), workers=workers_only, worker_processes=len(shares), gpus=gpus)


def _peak() -> int:
    # The values of getrusage may include the process before it executed this program.
    peak = _status("/proc/self/status", "VmHWM")
    if peak or sys.platform == "win32":
        return peak
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _status(path: str, name: str) -> int:
    """Return a number of bytes from one of Linux' process reports, or 0 if it is not available."""
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    for line in lines:
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0
