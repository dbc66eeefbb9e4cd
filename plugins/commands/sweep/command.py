"""`aip sweep`: checks everything first, then trains until the sweep is over."""

from __future__ import annotations

import importlib.util
import logging
import sys

import click
from aip_plugins.commands.sweep.begin import Begun, from_command_line, from_folder
from aip_plugins.commands.sweep.options import OPTIONS, seconds, take_space

from aipcore.cli.completion import ParametersCommand, complete_words
from aipcore.cli.help import show_help, show_usage
from aipcore.cli.request import make_request, split_arguments
from aipcore.console import Console
from aipcore.errors import TrainingError, UsageError
from aipcore.logs import log_level
from aipcore.streams import make_output_optional

SUMMARY = "Search good parameters of a scenario, with Optuna."


class _Sweep(ParametersCommand):
    own_options = OPTIONS


@click.command(
    "sweep",
    cls=_Sweep,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, shell_complete=complete_words)
def command(words: tuple[str, ...]) -> None:
    """Search good parameters of a scenario, with Optuna."""
    texts, rest = take_space(words)
    arguments = split_arguments(rest, OPTIONS, "sweep")
    console = Console()
    if "--help" in arguments.options:
        if arguments.scenario is None:
            show_usage(console, "sweep", SUMMARY, OPTIONS)
        else:
            show_help(console, make_request(arguments, "sweep"), "sweep", OPTIONS)
        return
    timeout = seconds(arguments.options)
    begun = (from_folder if "--resume" in arguments.options else from_command_line)(arguments, texts)
    if importlib.util.find_spec("optuna") is None:
        raise UsageError("aip sweep needs Optuna, which is not installed: pip install 'aipcore[sweep]'.")
    _sweep(begun, timeout, console, quiet="--quiet" in arguments.options or log_level() > logging.INFO)


def _sweep(begun: Begun, timeout: float | None, console: Console, *, quiet: bool) -> None:
    from aip_plugins.commands.sweep.process import Stop
    from aip_plugins.commands.sweep.results import show_results
    from aip_plugins.commands.sweep.runner import Sweep
    from aip_plugins.commands.sweep.study import database_errors, make_pruner, open_study

    make_output_optional()

    def tell(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    if begun.settings.sampler == "grid":
        begun.space.grid()
    # A database that cannot be used leaves no folder behind.
    shared = None if begun.settings.storage is None else open_study(begun.settings, begun.space)
    folder = begun.claim()
    settings = begun.settings
    study = shared or open_study(settings, begun.space, folder)
    study.pruner = make_pruner(settings.pruner, begun.epochs)
    with Stop(tell) as stop:
        sweep = Sweep(
            settings=settings, space=begun.space, study=study, folder=folder.resolve(), console=console, quiet=quiet,
            stop=stop,
        )  # fmt: skip
        if not quiet:
            tell(f"Sweep in {folder}: {begun.plan()}")
        failure = None
        with database_errors(settings, f"mend it, and go on by {begun.again(folder)}", TrainingError):
            try:
                sweep.run(timeout)
            except TrainingError as error:
                failure = error
            rows = sweep.write_tables()
            show_results(console, study, settings, begun.space, rows, folder)
    if failure is not None:
        raise failure
    if stop.received is not None:
        tell(f"To go on: {begun.again(folder)}")
        sys.exit(128 + stop.received)
    if not any(row.state in ("complete", "running") for row in rows):
        raise TrainingError("No trial of the sweep was completed: the table says why.")
