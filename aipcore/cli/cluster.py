"""Terminal output and log files of a distributed command: the chief writes everything, other workers only errors."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipcore.cli.style import prefix_reports, report
from aipcore.distributed.cluster import Cluster
from aipcore.distributed.params import DeviceParams
from aipcore.training import session
from aipcore.training.run_folder import resume_command

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aipcore.distributed.rendezvous import Tell
    from aipcore.training.reporter import Reporter


def find_cluster(params: DeviceParams) -> Cluster | None:
    """Return the cluster described by the environment, and prefix the errors of all workers except the chief.

    Raises:
        UsageError: the environment is wrong.
    """
    cluster = session.find_cluster(params)
    if cluster is not None and cluster.index:
        prefix_reports(session.worker_prefix(cluster))
    return cluster


def run_output(options: Mapping[str, Any], listener: Reporter | None = None) -> session.Output:
    """Return the output of `aip train` and `aip resume` to the user.

    Args:
        options: `--quiet`, and `--json-log` with a file for the progress.
        listener: additional receiver of the progress.
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
    """Return the functions that tell the user why the workers wait or stop.

    Args:
        output_dir: folder of the run, if this process writes it.
        close: function that releases the terminal.
    """
    from aipcore.distributed.rendezvous import Tell

    def note(text: str) -> None:
        report("aip", text)

    def last_words(reason: str) -> None:
        close()
        sentence = f"{reason}; all workers stop."
        record = logging.LogRecord("aipcore.devices", logging.ERROR, __file__, 0, sentence, None, None)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.FileHandler):
                handler.emit(record)
        report("error", sentence)
        if output_dir is not None and output_dir.exists():
            report("resume with", resume_command(output_dir))

    return Tell(note=note, last_words=last_words)
