"""`aip train`: checks everything first, then trains."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from aipcore.cli.cluster import run_output
from aipcore.cli.completion import ParametersCommand, complete_words
from aipcore.cli.help import show_help, show_usage
from aipcore.cli.request import HELP, PARAMS, CommandOption, make_request, split_arguments
from aipcore.console import Console
from aipcore.training.train import train_request

if TYPE_CHECKING:
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
    """Do what `aip train` does.

    Args:
        words: those after the command's name.
        listener: receives the progress too, beside the terminal.

    Returns:
        how the run ended, or None if only help was asked for.
    """
    arguments = split_arguments(words, OPTIONS, "train")
    if "--help" in arguments.options and arguments.scenario is None:
        show_usage(Console(), "train", "Train a scenario.", OPTIONS)
        return None
    request = make_request(arguments, "train")
    if "--help" in arguments.options:
        show_help(Console(), request, "train", OPTIONS)
        return None
    return train_request(
        request,
        run_output(arguments.options, listener),
    )
