"""The output of `aip plugins list`: as a table, as lines, as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs

from aipcore.files import shown_path
from aipcore.hooks.discovery import KINDS, Plugin, Status
from aipcore.hooks.manager import PluginManager

NOT_LOADED = "not loaded"
STYLES = {"ok": "green", "disabled": "yellow", "broken": "red"}


@attrs.frozen(kw_only=True)
class Row:
    """A plugin, or an entry point that is not loaded and therefore has no plugins.

    Attributes:
        kind: kind of the plugin; None if the entry point is not loaded.
        name: name of the plugin, otherwise of the entry point.
        summary: one sentence; empty if the entry point is not loaded.
        distribution: name of the installed package; None for a plugin file.
        version: version of that package; None for a plugin file.
        file: path of a plugin file; None for an installed package.
        status: status of the plugin.
        reason: reason why it cannot be used.
        entry_point: name of the entry point.
        seconds: load time of the entry point and all its records, in seconds.
    """

    kind: str | None
    name: str
    summary: str
    distribution: str | None
    version: str | None
    file: str | None
    status: Status
    reason: str
    entry_point: str
    seconds: float

    @property
    def source(self) -> str:
        """Distribution and version, or the path of the file."""
        return f"{self.distribution} {self.version}" if self.file is None else shown_path(Path(self.file))

    @property
    def text(self) -> str:
        """The summary, or the reason for a plugin that cannot be used."""
        return self.reason or self.summary

    def as_json(self) -> dict[str, Any]:
        """Return all fields in JSON types."""
        return attrs.asdict(self)


def rows(manager: PluginManager, kind: str | None = None) -> list[Row]:
    """Return the rows of one kind or of all kinds: by kind, built-in plugins first, unloaded entry points last."""
    found = [
        Row(
            kind=entry.record.kind,
            name=entry.record.name,
            summary=entry.record.summary,
            **_origin(entry.plugin),
            status=entry.status,
            reason=entry.reason,
            entry_point=entry.plugin.name,
            seconds=entry.plugin.seconds,
        )
        for each in KINDS
        for entry in manager.entries
        if entry.record.kind == each and kind in (None, each)
    ]
    found += [
        Row(
            kind=None,
            name=plugin.name,
            summary="",
            **_origin(plugin),
            status=plugin.status,
            reason=plugin.reason,
            entry_point=plugin.name,
            seconds=plugin.seconds,
        )
        for plugin in manager.plugins
        if plugin.status != "ok"
    ]
    return found


def _origin(plugin: Plugin) -> dict[str, str | None]:
    if plugin.file is None:
        return {"distribution": plugin.distribution, "version": plugin.version, "file": None}
    return {"distribution": None, "version": None, "file": str(plugin.file)}


def as_lines(found: Iterable[Row]) -> Iterator[str]:
    """Yield a line for each row, in columns, for tools such as `grep`."""
    listed = [(row.kind or NOT_LOADED, row.name, row.status, row.source, row.text) for row in found]
    return _columns([("KIND", "NAME", "STATUS", "DISTRIBUTION", "SUMMARY"), *listed])


def timing_lines(manager: PluginManager) -> Iterator[str]:
    """Yield a line for each entry point with its load time in milliseconds, the slowest first."""
    loaded = sorted(
        (plugin for plugin in manager.plugins if plugin.status != "disabled"), key=lambda plugin: -plugin.seconds
    )
    lines = [(f"{1000 * plugin.seconds:8.2f}", plugin.name, plugin.source) for plugin in loaded]
    total = f"{1000 * sum(plugin.seconds for plugin in loaded):8.2f}"
    return _columns([("LOAD, MS", "ENTRY POINT", "DISTRIBUTION"), *lines, (total, "all", "")])


def _columns(lines: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()


def print_table(found: list[Row]) -> None:
    """Print a table for each kind, as wide as the terminal."""
    from rich.table import Table
    from rich.text import Text

    from aipcore.console import Console

    console = Console(highlight=False)
    # Sources and statuses are aligned across all tables. Names are as wide as their kind needs, and summaries take the
    # rest.
    source_width = min(max((len(row.source) for row in found), default=0), 30)
    status_width = max((len(row.status) for row in found), default=0)
    for kind in (*KINDS, None):
        here = [row for row in found if row.kind == kind]
        if not here:
            continue
        console.print(Text(f"{kind or NOT_LOADED}", "bold"))
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.add_column(style="cyan", no_wrap=True, max_width=console.width * 2 // 5, overflow="ellipsis")
        table.add_column(ratio=1)
        table.add_column(width=source_width, overflow="fold")
        table.add_column(width=status_width)
        for row in here:
            style = STYLES[row.status]
            text = Text(row.text, "" if row.status == "ok" else style)
            table.add_row(f"  {row.name}", text, row.source, Text(row.status, style))
        console.print(table)
