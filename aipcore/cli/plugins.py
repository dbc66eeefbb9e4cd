"""`aip plugins`: what there is, where it comes from, and whether it works."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from aipcore.cli.style import Group
from aipcore.hooks.loading import KINDS
from aipcore.hooks.manager import get_plugin_manager

if TYPE_CHECKING:
    from aipcore.cli.plugin_list import Row

KIND = click.Choice(KINDS, case_sensitive=False)


@click.group("plugins", cls=Group)
def command() -> None:
    """List and describe plugins."""


@command.command("list")
@click.option("--kind", type=KIND, help="Only plugins of this kind.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with why a plugin is disabled or broken.")
@click.option("--timing", is_flag=True, help="Also show how long each entry point took to load.")
def list_plugins(kind: str | None, as_json: bool, timing: bool) -> None:
    """List all plugins: name, summary, distribution and version, status.

    On a terminal they stand in a table; into a file or pipe goes one line for each. What is not loaded has no known
    kind, and is listed in any case.
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
@click.argument("name")
@click.option("--kind", type=KIND, help="Only the plugin of this kind, if several have the name.")
@click.pass_context
def show(ctx: click.Context, name: str, kind: str | None) -> None:
    """Describe a plugin: parameters, source, documentation.

    NAME is that of a plugin, or of an entry point, for all that it registers. A name that plugins of several kinds
    have shows all of them.
    """
    from aipcore.cli.plugin_details import show_plugin

    show_plugin(get_plugin_manager(), name, kind, debug=bool(ctx.find_root().params.get("debug")))
