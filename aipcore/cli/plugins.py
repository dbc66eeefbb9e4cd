"""`aip plugins`: what there is, where it comes from, and whether it works."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aipcore.errors import PluginError
from aipcore.hooks.entries import Entry
from aipcore.hooks.manager import PluginManager, get_plugin_manager
from aipcore.hooks.records import RECORD_TYPES
from aipcore.params import Description, describe, nearest, normalize, one_of

KINDS = tuple(kind.kind for kind in RECORD_TYPES)
STYLES = {"ok": "green", "disabled": "yellow", "broken": "red"}


@click.group("plugins")
def command() -> None:
    """List and describe plugins."""


@command.command("list")
@click.option("--kind", type=click.Choice(KINDS, case_sensitive=False), help="Only plugins of this kind.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--timing", is_flag=True, help="Show how long each entry point took to load.")
def list_plugins(kind: str | None, as_json: bool, timing: bool) -> None:
    """List all plugins with their state."""
    rows = _rows(get_plugin_manager(), kind)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    console = Console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("name", no_wrap=True)
    table.add_column("summary")
    table.add_column("from", overflow="fold")
    table.add_column("status")
    if timing:
        table.add_column("ms", justify="right")
    section = ""
    for row in rows:
        if row["kind"] != section:
            section = str(row["kind"])
            table.add_row(Text(section, "bold"))
        cells: list[Any] = [Text(f"  {row['name']}", "cyan"), row["summary"]]
        cells += [f"{row['distribution']} {row['version']}", Text(row["status"], STYLES[row["status"]])]
        table.add_row(*cells, *([f"{1000 * row['seconds']:.1f}"] if timing else []))
    console.print(table)
    for row in rows:
        if row["reason"]:
            console.print(Text(f"{row['name']} of {row['distribution']} is {row['status']}: {row['reason']}."))


def _rows(manager: PluginManager, kind: str | None) -> list[dict[str, Any]]:
    rows = [
        {
            "kind": entry.record.kind,
            "name": entry.record.name,
            "summary": entry.record.summary,
            "entry_point": entry.plugin.name,
            "distribution": entry.plugin.distribution,
            "version": entry.plugin.version,
            "status": entry.status,
            "reason": entry.reason,
            "seconds": entry.plugin.seconds,
        }
        for entry in manager.entries
        if kind is None or entry.record.kind == kind
    ]
    rows.sort(key=lambda row: KINDS.index(str(row["kind"])))
    # What did not load registered nothing, so its kind is not known: it is always shown.
    rows += [
        {
            "kind": "not loaded",
            "name": plugin.name,
            "summary": plugin.module,
            "entry_point": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "status": plugin.status,
            "reason": plugin.reason,
            "seconds": plugin.seconds,
        }
        for plugin in manager.plugins
        if plugin.status != "ok"
    ]
    return rows


@command.command("show")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS, case_sensitive=False), help="The kind, if several have the name.")
def show(name: str, kind: str | None) -> None:
    """Describe one plugin: parameters, source, documentation."""
    manager = get_plugin_manager()
    found = [
        entry
        for entry in manager.entries
        if normalize(entry.record.name) == normalize(name) and kind in (None, entry.record.kind)
    ]
    if not found:
        raise _unknown(manager, name, kind)
    console = Console()
    for position, entry in enumerate(found):
        if position:
            console.print()
        _show(console, manager, entry)


def _unknown(manager: PluginManager, name: str, kind: str | None) -> PluginError:
    for plugin in manager.plugins:
        if normalize(plugin.name) == normalize(name) and plugin.status != "ok":
            return PluginError(f"The plugin {plugin.name} of {plugin.source} is {plugin.status}: {plugin.reason}.")
    near = nearest(name, (entry.record.name for entry in manager.entries))
    hint = f"did you mean {one_of(near)}?" if near else "`aip plugins list` shows all."
    return PluginError(f"There is no {kind or 'plugin'} {name!r}; {hint}")


def _show(console: Console, manager: PluginManager, entry: Entry) -> None:
    import inspect

    record = entry.record
    console.print(Text.assemble((record.name, "bold cyan"), f"  {record.kind}, {entry.plugin.source}"))
    console.print(Text(record.summary))
    if entry.status != "ok":
        console.print(Text(f"{entry.status}: {entry.reason}", STYLES[entry.status]))
        return
    facts = Table.grid(padding=(0, 2))
    facts.add_row("entry point", f"{entry.plugin.name} = {entry.plugin.module}")
    facts.add_row("built by", record.build)
    if record.docs:
        facts.add_row("documentation", record.docs)
    if record.kind == "command":
        console.print(facts)
        console.print(Text(f"\nUse: aip {record.name} --help"))
        return
    cls = manager.params_class(record.kind, record.name)
    facts.add_row("parameters", f"{cls.__module__}:{cls.__qualname__}")
    facts.add_row("source", inspect.getsourcefile(cls) or "unknown")
    console.print(facts)
    if cls.__doc__:
        console.print(Text("\n" + inspect.cleandoc(cls.__doc__)))
    use = {
        "optimizer": f"aip train SCENARIO --optimizer {record.name}",
        "schedule": f"aip train SCENARIO --learning_rate {record.name}",
        "callback": f"aip train SCENARIO --callbacks {record.name}",
        "exporter": f"aip train SCENARIO --export.formats {record.name}",
        "scenario": f"aip train {record.name}",
    }[record.kind]
    console.print(Text(f"\nUse: {use}"))
    prefix = {
        "optimizer": "optimizer.",
        "schedule": "learning_rate.",
        "callback": f"callbacks.{record.name}.",
        "exporter": f"export.formats.{record.name}.",
        "scenario": "",
    }[record.kind]
    options = describe(cls, manager, prefix)
    if options:
        console.print()
        console.print(_options(options))


def _options(options: list[Description]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("option", style="cyan", overflow="fold")
    table.add_column("default", overflow="fold")
    table.add_column("help")
    for option in options:
        limit = f" {option.limit[0].upper()}{option.limit[1:]}." if option.limit else ""
        default = "required" if option.required else option.default or "none"
        table.add_row(Text(f"--{option.name} {option.metavar}"), default, Text(option.help + limit))
    return table
