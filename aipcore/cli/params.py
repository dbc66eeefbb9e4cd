"""`aip params`: what a command line would train with, and where each value came from."""

from __future__ import annotations

import click
from rich.console import Console

from aipcore.cli.request import HELP, PARAMS, CommandOption, make_request, split_arguments
from aipcore.cli.scenario_help import show_help, show_usage
from aipcore.errors import UsageError
from aipcore.params import to_dict, to_json, to_yaml

FORMAT = CommandOption(("--format",), "yaml (the default) or json; both can be read back by --params.", "FORMAT")
OPTIONS = (HELP, PARAMS, FORMAT)


@click.command(
    "params",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def command(words: tuple[str, ...]) -> None:
    """Print the parameters that a command line would train with."""
    arguments = split_arguments(words, OPTIONS, "params")
    summary = "Print the parameters that a command line would train with, and where each came from."
    if "--help" in arguments.options and arguments.scenario is None:
        show_usage(Console(), "params", summary, OPTIONS)
        return
    form = arguments.options.get("--format", "yaml")
    if form not in ("yaml", "json"):
        raise UsageError(f"--format {form} is not allowed, it must be yaml or json.")
    request = make_request(arguments, "params")
    if "--help" in arguments.options:
        show_help(Console(), request, "params", OPTIONS)
        return
    resolved = request.resolved()
    if form == "json":
        click.echo(to_json(to_dict(resolved.value, request.plugins)), nl=False)
    else:
        click.echo(to_yaml(resolved.tree, origins=True), nl=False)
