"""What a command shows and writes when it is one of several workers: the chief everything, the others only trouble."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from aipcore.cli.style import prefix_reports, report
from aipcore.devices.cluster import Cluster, read_cluster
from aipcore.devices.params import DeviceParams

if TYPE_CHECKING:
    from collections.abc import Callable

    from aipcore.devices.meeting import Tell


def find_cluster(params: DeviceParams) -> Cluster | None:
    """The workers that the environment names, None unless several are asked for. Imports no TensorFlow.

    Raises:
        UsageError: the environment is wrong, and how.
    """
    if params.strategy != "multi_worker":
        return None
    cluster = read_cluster(os.environ, params.slurm_port)
    if cluster.index:
        prefix_reports(prefix(cluster))
    return cluster


def prefix(cluster: Cluster | None) -> str:
    """What each line of a worker begins with; the chief's lines stay as they are."""
    return "" if cluster is None or cluster.index == 0 else f"[worker {cluster.index}] "


def tell_user(output_dir: Path | None, close: Callable[[], None]) -> Tell:
    """How the workers tell the user what they wait for and why they end.

    Args:
        output_dir: of the run, if this process writes it.
        close: gives the terminal back.
    """
    from aipcore.devices.meeting import Tell

    def note(text: str) -> None:
        report("aip", text)

    def last_words(reason: str) -> None:
        close()
        sentence = f"{reason}; all workers end."
        record = logging.LogRecord("aipcore.devices", logging.ERROR, __file__, 0, sentence, None, None)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.FileHandler):
                handler.emit(record)
        report("error", sentence)
        if output_dir is not None and output_dir.exists():
            report("next", f"aip resume {output_dir} goes on from the last checkpoint.")

    return Tell(note=note, last_words=last_words)
