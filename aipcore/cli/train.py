"""`aip train`: checks everything first, then trains."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aipcore.cli.completing import ParametersCommand, complete_words
from aipcore.cli.peers import find_cluster, prefix, tell_user
from aipcore.cli.request import HELP, PARAMS, CommandOption, Request, make_request, split_arguments
from aipcore.cli.scenario_help import show_help, show_usage
from aipcore.console import Console
from aipcore.params import Resolved
from aipcore.params.resources import planned_copies
from aipcore.training.output_dir import choose_output_dir
from aipcore.training.warmstart.source import find_source

if TYPE_CHECKING:
    from aipcore.devices.cluster import Cluster
    from aipcore.training.reporter import Reporter, TrainResult

QUIET = CommandOption(("--quiet", "-q"), "Print warnings and errors only.")
JSON_LOG = CommandOption(("--json-log",), "Also write plan, epochs and summary to FILE, one JSON event a line.", "FILE")
OPTIONS = (HELP, PARAMS, QUIET, JSON_LOG)


class _Train(ParametersCommand):
    own_options = OPTIONS


@click.command(
    "train",
    cls=_Train,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, shell_complete=complete_words)
def command(words: tuple[str, ...]) -> None:
    """Train a scenario."""
    result = train(words)
    if result is not None and result.signal is not None:
        sys.exit(128 + result.signal)


def train(words: Sequence[str], listener: Reporter | None = None) -> TrainResult | None:
    """What `aip train` does.

    Args:
        words: those after the command's name.
        listener: hears of the run too, beside the terminal.

    Returns:
        how the run ended, or None if only help was asked for.
    """
    arguments = split_arguments(words, OPTIONS, "train")
    console = Console()
    if "--help" in arguments.options and arguments.scenario is None:
        show_usage(console, "train", "Train a scenario.", OPTIONS)
        return None
    request = make_request(arguments, "train")
    if "--help" in arguments.options:
        show_help(console, request, "train", OPTIONS)
        return None
    resolved = request.checked()
    if resolved.value.trainer.warmstart.model is not None:
        find_source(resolved.value.trainer.warmstart.model)
    cluster = find_cluster(resolved.value.trainer.device)
    json_log = arguments.options.get("--json-log")
    if cluster is not None and cluster.index:
        output_dir, json_log = None, None
    else:
        output_dir = choose_output_dir(resolved.value.trainer.output_dir, request.scenario.name)
    return _train(
        request,
        resolved,
        output_dir,
        console,
        cluster,
        quiet="--quiet" in arguments.options,
        json_log=None if json_log is None else Path(json_log),
        listener=listener,
    )


def _train(
    request: Request,
    resolved: Resolved[Any],
    output_dir: Path | None,
    console: Console,
    cluster: Cluster | None,
    *,
    quiet: bool,
    json_log: Path | None,
    listener: Reporter | None,
) -> TrainResult:
    from aipcore.logs import log_level, logging_to
    from aipcore.training.start import import_tensorflow

    level = log_level()
    # Who asks for warnings only has no use for the plan and a progress bar either.
    quiet = quiet or level > logging.INFO
    import_tensorflow(verbose=level <= logging.DEBUG)
    from aipcore.cli.json_reporter import JsonReporter
    from aipcore.devices.joining import joined_workers
    from aipcore.devices.selection import select_devices
    from aipcore.training.console_reporter import ConsoleHandler, ConsoleReporter
    from aipcore.training.output_dir import claim_output_dir
    from aipcore.training.reporter import Reporter as Silent
    from aipcore.training.reporter import Reporters
    from aipcore.training.run_folder import locked
    from aipcore.training.setup import about_run, make_parts, write_run_files
    from aipcore.training.trainer import Trainer

    device = resolved.value.trainer.device
    select_devices(device)
    terminal = ConsoleReporter(console, quiet=quiet)
    events = None if json_log is None else JsonReporter(json_log)
    reporter = Reporters(*filter(None, (terminal, events, listener)))
    handler = ConsoleHandler(console, quiet=quiet or output_dir is None)
    handler.setFormatter(logging.Formatter(f"{prefix(cluster)}%(message)s"))
    try:
        with (
            logging_to(handler, file_follows=output_dir is not None) as log,
            joined_workers(device, cluster, tell_user(output_dir, terminal.close)) as workers,
        ):
            scenario = request.scenario.cls(resolved.value)
            about = about_run(request.scenario, resolved, request.plugins)
            trainer = Trainer(
                scenario,
                resolved.value,
                name=request.scenario.name,
                parts=make_parts(resolved.value.trainer, request.plugins),
                output_dir=output_dir,
                about=about,
                reporter=reporter if workers.is_chief else Silent(),
                workers=workers,
            )
            # What cannot be compiled leaves no folder behind.
            trainer.compilation = trainer.compile()
            if output_dir is None:
                return trainer.run()
            claim_output_dir(output_dir)
            with locked(output_dir):
                log.write_to(output_dir / "train.log")
                # What the run is must be on the disk before its first checkpoint, or nobody could go on from that.
                _, resources = planned_copies(resolved.value, request.plugins)
                write_run_files(output_dir, trainer.about, resources)
                return trainer.run()
    finally:
        terminal.close()
        if events is not None:
            events.close()
