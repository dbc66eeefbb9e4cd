"""What a command shows and writes when it is one of several workers: the chief everything, the others only trouble."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipcore.cli.style import prefix_reports, report
from aipcore.distributed.cluster import Cluster
from aipcore.distributed.params import DeviceParams
from aipcore.training import session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aipcore.distributed.rendezvous import Tell
    from aipcore.training.reporter import Reporter


def find_cluster(params: DeviceParams) -> Cluster | None:
    """Return the workers that the environment names, and prefix the errors of all but the chief.

    Raises:
        UsageError: the environment is wrong, and how.
    """
    cluster = session.find_cluster(params)
    if cluster is not None and cluster.index:
        prefix_reports(session.worker_prefix(cluster))
    return cluster


def run_output(options: Mapping[str, Any], listener: Reporter | None = None) -> session.Output:
    """Return how `aip train` and `aip resume` talk to the user.

    Args:
        options: `--quiet`, and `--json-log` with a file that gets the progress too.
        listener: receives the progress too.
    """

    def listeners() -> list[Reporter]:
        from aipcore.cli.json_reporter import JsonReporter

        file = options.get("--json-log")
        reporters: list[Reporter] = [] if file is None else [JsonReporter(Path(file))]
        return reporters if listener is None else [*reporters, listener]

    return session.Output(
        quiet="--quiet" in options,
        listeners=listeners,
        find_cluster=find_cluster,
        tell=tell_user,
        owns_process=True,
    )


def tell_user(output_dir: Path | None, close: Callable[[], None]) -> Tell:
    """How the workers tell the user what they wait for and why they end.

    Args:
        output_dir: of the run, if this process writes it.
        close: gives the terminal back.
    """
    from aipcore.distributed.rendezvous import Tell

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
