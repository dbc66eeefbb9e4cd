"""Helpers of the benchmarks: a description of the machine, and medians."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version


def machine(*distributions: str) -> str:
    """Return one line with the machine and the relevant versions."""
    versions = ", ".join(f"{name} {version(name)}" for name in distributions)
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


def row(what: str, seconds: Sequence[float], peer: str, peer_seconds: Sequence[float]) -> float:
    """Print a comparison of medians and return how many times as fast as the peer aip is."""
    ours, theirs = statistics.median(seconds), statistics.median(peer_seconds)
    ratio = theirs / ours
    print(f"{what:<44} {ours:8.3f} s   {peer:<28} {theirs:8.3f} s   {ratio:6.2f} times as fast")
    return ratio
