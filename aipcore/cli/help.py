"""The help of commands that take a scenario and its parameters."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table

from aipcore.cli.request import options_of
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import render_help
from aipcore.training.request import Request


def show_usage(console: Console, command: click.Command) -> None:
    """Print the help of a command before a scenario is named."""
    show_summary(console, command, "SCENARIO")
    plugins = get_plugin_manager()
    console.print("\nSCENARIO is one of these, [bold]package.module:Class[/bold], or a [bold].py[/bold] file:")
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    for scenario in plugins.names("scenario"):
        table.add_row(f"  {scenario}", plugins.summary("scenario", scenario))
    console.print(table)
    console.print(f"\nAll parameters of one: [bold]aip {command.name} SCENARIO --help[/bold]")


def show_summary(console: Console, command: click.Command, first: str) -> None:
    """Print the usage, summary and options of a command.

    Args:
        console: console to print to.
        command: command to describe.
        first: placeholder of its first word.
    """
    console.print(f"Usage: [bold]aip {command.name} {first} \\[OPTIONS] \\[PARAMETERS][/bold]\n\n{command.help}\n")
    show_options(console, options_of(command))


def show_help(console: Console, request: Request, command: click.Command) -> None:
    """Print the help of a command for one scenario, with the parameter values of this command line."""
    console.print(f"Usage: [bold]aip {command.name} {request.scenario.name} \\[OPTIONS] \\[PARAMETERS][/bold]\n")
    summary = (request.scenario.cls.__doc__ or "").strip().splitlines()
    if summary:
        console.print(summary[0] + "\n", markup=False)
    show_options(console, options_of(command))
    console.print("\nParameters, with the values they have in this command:")
    render_help(request.root, request.layers, request.plugins, console)


def show_options(console: Console, options: Sequence[click.Option]) -> None:
    """Print the options of a command itself."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    for option in options:
        table.add_row("  " + ", ".join(option.opts) + (f" {option.metavar}" if option.metavar else ""), option.help)
    console.print(table)
