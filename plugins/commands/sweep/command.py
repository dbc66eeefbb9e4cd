"""`aip sweep`: its options and its main sequence. All checks come first, then trials run until the end."""

from __future__ import annotations

import importlib.util
import logging
import sys

import click
from aip_plugins.commands.sweep.dimension import FORMS
from aip_plugins.commands.sweep.request import BESIDE_RESUME, SweepRequest, from_command_line, from_folder

from aipcore.cli.completion import ParametersCommand, words_command
from aipcore.cli.help import show_help, show_usage
from aipcore.cli.request import HELP, PARAMS, command_option, make_request, split_arguments
from aipcore.console import Console
from aipcore.errors import TrainingError, UsageError
from aipcore.logs import log_level
from aipcore.params.names import one_of
from aipcore.streams import make_output_optional

SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("median", "hyperband", "none")
OPTIONS = (
    HELP,
    command_option(
        "--space",
        help=f"Hyperparameters to search: {FORMS}, or several of these.",
        metavar="SPACE ...",
        multiple=True,
    ),
    command_option(
        "--trials",
        help="Total number of trials, including failed ones. By default 20, or all points of a grid; no limit with "
        "--timeout.",
        metavar="N",
        type=click.IntRange(min=1),
    ),
    command_option(
        "--timeout",
        help="Seconds after which no further trial starts.",
        metavar="S",
        type=click.FloatRange(min=0, min_open=True),
    ),
    command_option(
        "--sampler",
        help=f"Sampler of the values. Choose {one_of(SAMPLERS)}; by default tpe.",
        metavar="NAME",
        type=click.Choice(SAMPLERS),
    ),
    command_option(
        "--pruner",
        help=f"Pruner, which stops poor trials early. Choose {one_of(PRUNERS)}; by default median.",
        metavar="NAME",
        type=click.Choice(PRUNERS),
    ),
    command_option(
        "--seed",
        help="Seed of the sampler. By default, it is random.",
        metavar="N",
        type=click.IntRange(min=0),
    ),
    command_option(
        "--monitor",
        help="Value to optimize and its direction, such as min:val_loss. By default, the scenario's monitor.",
        metavar="min|max:NAME",
    ),
    PARAMS,
    command_option(
        "--sweep_dir",
        "--sweep-dir",
        help="Folder of the sweep. By default, runs/SCENARIO-sweep-N. If it contains this sweep, the sweep is resumed.",
        metavar="DIR",
    ),
    command_option(
        "--resume", help="Resume the sweep of a folder with its settings. It replaces SCENARIO.", metavar="DIR"
    ),
    command_option(
        "--trust",
        help="Trust the folder of --resume. This runs the code of the file or module that the folder names as its "
        "scenario, and of its plugin files, and contacts the addresses that it names.",
    ),
    command_option(
        "--storage",
        help="URL of the database, as in SQLAlchemy. Several machines may share it. Needs --study.",
        metavar="URL",
    ),
    command_option(
        "--study", help="Name of the study in the database. Use the same name on all machines.", metavar="NAME"
    ),
    command_option("--quiet", "-q", help="Print only the result."),
)


@words_command("sweep", ParametersCommand, OPTIONS)
def command(words: tuple[str, ...]) -> None:
    """Search hyperparameters of a scenario with Optuna."""
    arguments = split_arguments(words, OPTIONS, "sweep")
    console, given = Console(), arguments.options
    if "--help" in given:
        if arguments.scenario is None:
            show_usage(console, command)
        else:
            examples = ("--space learning_rate.lr=log:1e-4..1e-2 --trials 20",)
            show_help(console, make_request(arguments, "sweep"), command, arguments, examples=examples)
        return
    if "--resume" in given:
        others = [arguments.scenario or "", *arguments.rest]
        others += [name for name in given if name not in ("--resume", *BESIDE_RESUME)]
        if other := next(filter(None, others), None):
            raise UsageError(
                f"--resume reads the sweep from its folder. Leave out {other}. Only {', '.join(BESIDE_RESUME)} can be "
                "combined with it."
            )
        request = from_folder(given)
    else:
        request = from_command_line(arguments)
    if importlib.util.find_spec("optuna") is None:
        raise UsageError("aip sweep needs Optuna, which is not installed. Run pip install 'aipcore[sweep]'.")
    _sweep(request, given.get("--timeout"), console, quiet="--quiet" in given or log_level() > logging.INFO)


def _sweep(request: SweepRequest, timeout: float | None, console: Console, *, quiet: bool) -> None:
    from aip_plugins.commands.sweep.results import show_results
    from aip_plugins.commands.sweep.runner import Sweep
    from aip_plugins.commands.sweep.study import database_errors, make_pruner, open_study
    from aip_plugins.commands.sweep.trial import Stop

    make_output_optional()

    def tell(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    if request.settings.sampler == "grid":
        request.space.grid()
    # Opened first, so that an unusable database leaves no folder behind.
    shared = None if request.settings.storage is None else open_study(request.settings, request.space)
    folder = request.claim()
    settings, space = request.settings, request.space
    study = shared or open_study(settings, space, folder)
    study.pruner = make_pruner(settings.pruner, request.epochs)
    with Stop(tell) as stop:
        sweep = Sweep(settings, space, study, folder.resolve(), console=console, quiet=quiet, stop=stop)
        if not quiet:
            tell(f"Sweep in {folder}: {request.plan()}")
        failure = None
        with database_errors(settings, f"Fix it, and resume the sweep with {request.again(folder)}", TrainingError):
            try:
                sweep.run(timeout)
            except TrainingError as error:
                failure = error
            rows = sweep.write_tables()
            show_results(console, study, settings, space, rows, folder)
    if failure is not None:
        raise failure
    if stop.received is not None:
        tell(f"Resume with: {request.again(folder)}")
        sys.exit(128 + stop.received)
    if not any(row.state in ("complete", "running") for row in rows):
        raise TrainingError("No trial of the sweep was completed. The table shows the reasons.")
