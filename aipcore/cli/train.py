"""`aip train`: checks everything, then trains."""

from __future__ import annotations

import sys

from aipcore.cli.completion import ParametersCommand, words_command
from aipcore.cli.help import show_help, show_usage
from aipcore.cli.request import HELP, PARAMS, command_option, make_request, split_arguments
from aipcore.console import Console

QUIET = command_option("--quiet", "-q", help="Print warnings and errors only.")
JSON_LOG = command_option(
    "--json-log", help="Also write plan, epochs and summary to FILE as JSON lines.", metavar="FILE"
)
OPTIONS = (HELP, PARAMS, QUIET, JSON_LOG)


@words_command("train", ParametersCommand, OPTIONS)
def command(words: tuple[str, ...]) -> None:
    """Train a scenario."""
    arguments = split_arguments(words, OPTIONS, "train")
    if "--help" in arguments.options and arguments.scenario is None:
        show_usage(Console(), command)
        return
    request = make_request(arguments, "train")
    if "--help" in arguments.options:
        show_help(Console(), request, command, arguments)
        return
    # Imported here: the help needs neither.
    from aipcore.cli.cluster import run_output
    from aipcore.training.train import train_request

    result = train_request(request, run_output(arguments.options))
    if result.signal is not None:
        sys.exit(128 + result.signal)
