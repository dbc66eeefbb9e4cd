"""The session of a run: devices, messages, the other workers, and the folder. Imports TensorFlow only on request."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from aipcore.console import Console
from aipcore.distributed.cluster import Cluster, read_cluster
from aipcore.distributed.params import DeviceParams
from aipcore.logs import RunLog, log_level, logging_to
from aipcore.start_tensorflow import KERAS_STATE
from aipcore.streams import make_output_optional
from aipcore.training.reporter import Reporter, Reporters, TrainResult
from aipcore.training.status import StatusReporter, recorded_failure

if TYPE_CHECKING:
    from aipcore.distributed.process_group import ProcessGroup
    from aipcore.distributed.rendezvous import Tell

logger = logging.getLogger("aipcore.training")

Record = Callable[[TrainResult], None]
Opening = Callable[[dict[str, Any]], AbstractContextManager[Record]]
"""A function from a run's record to a context in which the run owns its folder. The context yields a function that
receives the result.
"""


def find_cluster(params: DeviceParams) -> Cluster | None:
    """Return the workers described by the environment, or None unless several are requested.

    Raises:
        UsageError: the environment is not valid.
    """
    return read_cluster(os.environ, params.slurm_port) if params.strategy == "multi_worker" else None


def _log_only(output_dir: Path | None, close: Callable[[], None]) -> Tell:
    from aipcore.distributed.rendezvous import Tell

    del output_dir, close
    return Tell(note=logger.info, last_words=logger.error)


def worker_prefix(cluster: Cluster | None) -> str:
    """Return the prefix of each line of a worker; empty for the chief."""
    return "" if cluster is None or cluster.index == 0 else f"[worker {cluster.index}] "


@attrs.frozen(kw_only=True, eq=False)
class Output:
    """Settings for the output of a run.

    Attributes:
        reporter: receives the progress instead of the console.
        quiet: if True, print only warnings and errors.
        listeners: creates further reporters, after all checks have passed; those with `close` are closed.
        find_cluster: finds the workers.
        tell: creates the workers' message callbacks, from the output folder and a function that restores the terminal.
        owns_process: True if a run that ignores a signal may end the process.
    """

    reporter: Reporter | None = None
    quiet: bool = False
    listeners: Callable[[], Sequence[Reporter]] = tuple
    find_cluster: Callable[[DeviceParams], Cluster | None] = find_cluster
    tell: Callable[[Path | None, Callable[[], None]], Tell] = _log_only
    owns_process: bool = False


@attrs.frozen(kw_only=True, eq=False)
class OpenOutput:
    """An open output.

    Attributes:
        reporter: receives the progress.
        handler: prints log messages.
        close: restores the terminal and closes files.
    """

    reporter: Reporter
    handler: logging.Handler
    close: Callable[[], None]


def open_output(output: Output, cluster: Cluster | None = None, *, folder: Path | None = None) -> OpenOutput:
    """Return the reporter and the log handler of a run. Workers other than the chief print only warnings.

    Args:
        output: the output settings of the run.
        cluster: the workers, or None.
        folder: the run folder for the status of the run, or None.

    Raises:
        UsageError: a file for progress is not writable.
    """
    from aipcore.training.console_reporter import ConsoleHandler, ConsoleReporter

    console, chief = Console(), cluster is None or cluster.index == 0
    # A log level of warnings also turns off the plan and the progress bar.
    quiet = output.quiet or log_level() > logging.INFO
    handler = ConsoleHandler(console, quiet=quiet or not chief or output.reporter is not None)
    handler.setFormatter(logging.Formatter(f"{worker_prefix(cluster)}%(message)s"))
    reporter_class = ConsoleReporter
    if console.is_jupyter:
        from aipcore.training.notebook_reporter import NotebookReporter

        reporter_class = NotebookReporter
    reporters: list[Reporter] = [output.reporter or reporter_class(console, quiet=quiet)]
    if chief:
        reporters += output.listeners()
    if folder is not None:
        reporters.append(StatusReporter(folder))

    def close() -> None:
        for reporter in reporters:
            if hasattr(reporter, "close"):
                reporter.close()

    return OpenOutput(reporter=Reporters(*reporters) if chief else Reporter(), handler=handler, close=close)


def start_tensorflow(device: DeviceParams) -> None:
    """Import TensorFlow and select its devices.

    Raises:
        ParamsError: see `select_devices`.
    """
    from aipcore.start_tensorflow import import_tensorflow

    import_tensorflow(verbose=log_level() <= logging.DEBUG)
    from aipcore.distributed.devices import select_devices

    select_devices(device)


@contextmanager
def session(
    device: DeviceParams, output: Output, cluster: Cluster | None, output_dir: Path | None
) -> Iterator[tuple[OpenOutput, RunLog, ProcessGroup]]:
    """Start TensorFlow, start logging, and connect to the other workers, until the context ends.

    Args:
        device: the device parameters.
        output: the output settings of the run.
        cluster: the result of `output.find_cluster`.
        output_dir: the run folder; None if this process does not write to it.

    Yields:
        The opened output, the log, and the processes.
    """
    start_tensorflow(device)
    make_output_optional()
    from aipcore.distributed.strategy import joined_processes

    shown = open_output(output, cluster, folder=output_dir)
    try:
        with (
            KERAS_STATE,
            logging_to(shown.handler, file_follows=output_dir is not None) as log,
            joined_processes(device, cluster, output.tell(output_dir, shown.close)) as processes,
        ):
            yield shown, log, processes
    finally:
        shown.close()


def new_folder(output_dir: Path, resources: Mapping[str, Path], log: RunLog) -> Opening:
    """Return the context in which a new run claims and locks its folder, and writes its records."""

    @contextmanager
    def opening(about: dict[str, Any]) -> Iterator[Record]:
        from aipcore.training.components import record_result, write_run_files
        from aipcore.training.run_folder import claim_output_dir, locked

        claim_output_dir(output_dir)
        with locked(output_dir), recorded_failure(output_dir):
            log.write_to(output_dir / "train.log")
            # The records must be on disk before the first checkpoint. Without them, the run could not be resumed.
            write_run_files(output_dir, about, resources)
            yield lambda result: record_result(output_dir, about, result)

    return opening


def logged_folder(shown: OpenOutput, output_dir: Path | None, resources: Mapping[str, Path]) -> Opening:
    """Return the context in which a run without a session logs while it trains, and claims its folder if it has one."""

    @contextmanager
    def opening(about: dict[str, Any]) -> Iterator[Record]:
        try:
            with logging_to(shown.handler, file_follows=output_dir is not None) as log, ExitStack() as folder:
                yield (
                    (lambda _: None)
                    if output_dir is None
                    else folder.enter_context(new_folder(output_dir, resources, log)(about))
                )
        finally:
            shown.close()

    return opening
