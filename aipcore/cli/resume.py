"""`aip resume`: continues a run from its newest complete checkpoint, with changed parameters if any are given."""

from __future__ import annotations

import sys
from pathlib import Path

from aipcore.cli.cluster import run_output
from aipcore.cli.completion import RunCommand, words_command
from aipcore.cli.help import show_help, show_summary
from aipcore.cli.request import HELP, PARAMS, command_option, given_layers, split_arguments
from aipcore.cli.train import JSON_LOG, QUIET
from aipcore.console import Console
from aipcore.errors import UsageError
from aipcore.training.resume import resume_run
from aipcore.training.stored_run import find_stored_run

TRUST = command_option(
    "--trust",
    help="Trust the code and the addresses that the run folder names. The code is the file or module of its scenario. "
    "Check both first.",
)
STRICT_DATA = command_option(
    "--strict-data",
    help="Refuse to resume if the data or the scenario source changed. By default, this is a warning.",
)
OPTIONS = (HELP, PARAMS, TRUST, STRICT_DATA, QUIET, JSON_LOG)


@words_command("resume", RunCommand, OPTIONS)
def command(words: tuple[str, ...]) -> None:
    """Resume a run from its newest checkpoint."""
    arguments = split_arguments(words, OPTIONS, "resume", first="DIR")
    if arguments.scenario is None:
        if "--help" not in arguments.options:
            raise UsageError("Name a run folder: aip resume DIR. aip resume --help shows the options.")
        console = Console()
        show_summary(console, command, "DIR")
        console.print("\nDIR is a run folder, its checkpoint folder, or one checkpoint in it.")
        console.print("To see the parameters of a run: [bold]aip resume DIR --help[/bold]")
        return
    stored = find_stored_run(Path(arguments.scenario), given_layers(arguments), trust="--trust" in arguments.options)
    if "--help" in arguments.options:
        show_help(Console(), stored.request, command, arguments, examples=("", "--trainer.epochs 40"))
        return
    output = run_output(arguments.options)
    result = resume_run(stored, output, strict_data="--strict-data" in arguments.options)
    if result.signal is not None:
        sys.exit(128 + result.signal)
