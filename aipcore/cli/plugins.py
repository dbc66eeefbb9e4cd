"""`aip plugins`: commands to list, describe, check and create plugins."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from aipcore.cli.style import Group, NameChoice
from aipcore.errors import UsageError
from aipcore.hooks.discovery import KINDS
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params.names import count

if TYPE_CHECKING:
    from aipcore.cli.plugin_list import Row

KIND = NameChoice(KINDS, "There is no plugin kind")


def complete_plugins(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the names of plugins, of the kind given on the command line if there is one."""
    del parameter
    kind = ctx.params.get("kind")
    records = [entry.record for entry in get_plugin_manager().entries if kind in (None, entry.record.kind)]
    summaries = {record.name: record.summary for record in records}
    matching = [name for name in summaries if name.casefold().startswith(incomplete.casefold())]
    return [CompletionItem(name, help=summaries[name]) for name in matching]


@click.group("plugins", cls=Group)
def command() -> None:
    """List, describe, check and create plugins."""


@command.command("list")
@click.option("--kind", type=KIND, help="List only plugins of this kind.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the reason why a plugin is not usable.")
@click.option("--timing", is_flag=True, help="Also show the load time of each entry point.")
def list_plugins(kind: str | None, as_json: bool, timing: bool) -> None:
    """List all plugins: name, summary, distribution and version, status.

    A terminal shows tables. A file or pipe gets one line per plugin. Plugins that are not loaded have no known kind and
    are always listed.
    """
    from aipcore.cli.plugin_list import as_lines, print_table, rows, timing_lines

    manager = get_plugin_manager()
    found: list[Row] = rows(manager, kind)
    if as_json:
        import json

        click.echo(json.dumps([row.as_json() for row in found], indent=2))
        return
    if sys.stdout.isatty():
        print_table(found)
    else:
        click.echo("".join(f"{line}\n" for line in as_lines(found)), nl=False)
    if timing:
        click.echo("".join(f"{line}\n" for line in ["", *timing_lines(manager)]), nl=False)


@command.command("show")
@click.argument("name", shell_complete=complete_plugins)
@click.option("--kind", type=KIND, help="Kind of the plugin, if several kinds have this name.")
@click.pass_context
def show(ctx: click.Context, name: str, kind: str | None) -> None:
    """Describe a plugin: parameters, source, documentation.

    NAME is a plugin, or an entry point for all of its plugins. If plugins of several kinds have this name, all are
    shown.
    """
    from aipcore.cli.plugin_details import show_plugin

    show_plugin(get_plugin_manager(), name, kind, debug=bool(ctx.find_root().params.get("debug")))


@command.command("check")
@click.argument("names", nargs=-1, metavar="NAME...", shell_complete=complete_plugins)
@click.option("--kind", type=KIND, help="Check only plugins of this kind.")
@click.option("--all", "every", is_flag=True, help="Check all plugins. With aip --no-plugins, only the built-in ones.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def check(names: tuple[str, ...], kind: str | None, every: bool, as_json: bool) -> None:
    """Run the conformance checks of a plugin.

    NAME is a plugin, or an entry point for all of its plugins. Each check prints one line. The exit code is 1 if a
    check fails. docs/testing-plugins.md describes the checks.
    """
    if every == bool(names):
        raise UsageError("Name the plugins to check, or give --all. `aip plugins list` shows all plugins.")
    from aipcore.cli.plugin_check import check_plugins, chosen_entries

    manager = get_plugin_manager()
    entries = chosen_entries(manager, names, kind, every=every)
    broken = [f"the plugin {each.name} of {each.source} {each.reason}." for each in manager.broken()] if every else []
    if not check_plugins(manager, entries, broken, as_json=as_json):
        sys.exit(1)


@command.command("new")
@click.argument("kind", type=KIND)
@click.argument("name")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder to create. By default aip-plugin-NAME in the current folder.",
)
def new(kind: str, name: str, output: Path | None) -> None:
    """Create a working plugin package with tests.

    KIND is optimizer, schedule, scenario, callback, exporter, writer or command. NAME is the name that
    users type, such as SignSGD for the package aip-plugin-sign-sgd.
    """
    from aipcore.scaffold.bake import bake, next_commands
    from aipcore.scaffold.names import names_for

    names = names_for(kind, name, get_plugin_manager())
    folder = output or Path(names.distribution)
    written = bake(names, folder)
    click.echo(f"{folder} contains a working {kind} in {count(len(written), 'file')}:")
    click.echo("".join(f"  {path}\n" for path in written))
    click.echo("Next:")
    click.echo("".join(f"  {line}\n" for line in next_commands(names, folder)), nl=False)
