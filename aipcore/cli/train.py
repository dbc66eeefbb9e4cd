"""`aip train`: checks everything first, then trains."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from aipcore.cli.request import HELP, PARAMS, CommandOption, Request, make_request, split_arguments
from aipcore.cli.scenario_help import show_help, show_usage
from aipcore.params import Resolved
from aipcore.training.output_dir import choose_output_dir

if TYPE_CHECKING:
    from aipcore.training.reporter import TrainResult

QUIET = CommandOption(("--quiet", "-q"), "Print warnings and errors only.")
JSON_LOG = CommandOption(("--json-log",), "Also write plan, epochs and summary to FILE, one JSON event a line.", "FILE")
OPTIONS = (HELP, PARAMS, QUIET, JSON_LOG)


@click.command(
    "train",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def command(words: tuple[str, ...]) -> None:
    """Train a scenario."""
    arguments = split_arguments(words, OPTIONS, "train")
    console = Console()
    if "--help" in arguments.options and arguments.scenario is None:
        show_usage(console, "train", "Train a scenario.", OPTIONS)
        return
    request = make_request(arguments, "train")
    if "--help" in arguments.options:
        show_help(console, request, "train", OPTIONS)
        return
    resolved = request.resolved()
    output_dir = choose_output_dir(resolved.value.trainer.output_dir, request.scenario.name)
    json_log = arguments.options.get("--json-log")
    result = _train(
        request,
        resolved,
        output_dir,
        console,
        quiet="--quiet" in arguments.options,
        json_log=None if json_log is None else Path(json_log),
    )
    if result.signal is not None:
        sys.exit(128 + result.signal)


def _train(
    request: Request, resolved: Resolved[Any], output_dir: Path, console: Console, *, quiet: bool, json_log: Path | None
) -> TrainResult:
    from aipcore.training.logs import log_level, logging_to
    from aipcore.training.start import import_tensorflow

    import_tensorflow(verbose=log_level() <= logging.DEBUG)
    from aipcore.cli.console_reporter import ConsoleHandler, ConsoleReporter
    from aipcore.cli.json_reporter import JsonReporter
    from aipcore.training.devices import select_devices
    from aipcore.training.output_dir import claim_output_dir
    from aipcore.training.reporter import Reporters
    from aipcore.training.run_folder import locked
    from aipcore.training.setup import about_run, make_parts, write_run_files
    from aipcore.training.trainer import Trainer

    select_devices(resolved.value.trainer.device)
    terminal = ConsoleReporter(console, quiet=quiet)
    events = None if json_log is None else JsonReporter(json_log)
    try:
        scenario = request.scenario.cls(resolved.value)
        about = about_run(request.scenario, resolved, request.plugins)
        trainer = Trainer(
            scenario,
            resolved.value,
            name=request.scenario.name,
            parts=make_parts(resolved.value.trainer, request.plugins),
            output_dir=output_dir,
            about=about,
            reporter=terminal if events is None else Reporters(terminal, events),
        )
        claim_output_dir(output_dir)
        with locked(output_dir), logging_to(ConsoleHandler(console, quiet=quiet), output_dir / "train.log"):
            # What the run is must be on the disk before its first checkpoint, or nobody could go on from that.
            trainer.about["seed"] = trainer.seed
            write_run_files(output_dir, trainer.about)
            return trainer.run()
    finally:
        terminal.close()
        if events is not None:
            events.close()
