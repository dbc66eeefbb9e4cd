"""The output of `aip plugins show`."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Sequence

from rich.padding import Padding
from rich.text import Text

from aipcore.cli.columns import Row, show_rows
from aipcore.cli.plugin_list import STYLES
from aipcore.console import Console
from aipcore.errors import TRACEBACK, PluginError
from aipcore.hooks.discovery import Entry, Plugin
from aipcore.hooks.manager import PluginManager
from aipcore.hooks.references import find_source
from aipcore.params import Description, describe, nearest, normalize, one_of
from aipcore.params.help import plain

CHOSEN_BY = {
    "optimizer": "aip train SCENARIO --optimizer {name}",
    "schedule": "aip train SCENARIO --learning_rate {name}",
    "scenario": "aip train {name}",
    "callback": "aip train SCENARIO --callbacks {name}",
    "exporter": "aip train SCENARIO --export.formats {name}",
    "writer": "aip predict MODEL --output FILE{suffix}",
    "command": "aip {name} --help",
}
"""The option or command that selects a plugin, by kind."""

SHOWN_EPOCHS = 20

PREFIXES = {
    "optimizer": "optimizer.",
    "schedule": "learning_rate.",
    "callback": "callbacks.{name}.",
    "exporter": "export.formats.{name}.",
}
"""The prefix of a plugin's options, by kind."""


def show_plugin(manager: PluginManager, name: str, kind: str | None, *, debug: bool) -> None:
    """Print all plugins and entry points with this name.

    Raises:
        PluginError: the name is unknown, or the parameters cannot be imported.
    """
    console = Console(highlight=False)
    entries = [
        entry
        for entry in manager.entries
        if normalize(entry.record.name) == normalize(name) and kind in (None, entry.record.kind)
    ]
    points = [plugin for plugin in manager.plugins if kind is None and normalize(plugin.name) == normalize(name)]
    if not entries and not points:
        raise PluginError(_unknown(manager, name, kind))
    for entry in entries:
        _show_entry(console, manager, entry)
    # A plugin usually has the name of its entry point, which the entry already shows.
    told = [entry.plugin for entry in entries]
    for plugin in points:
        if plugin not in told:
            _show_point(console, plugin, debug=debug)


def _unknown(manager: PluginManager, name: str, kind: str | None) -> str:
    known = [entry.record.name for entry in manager.entries if kind in (None, entry.record.kind)]
    known += [plugin.name for plugin in manager.plugins if kind is None]
    near = nearest(name, dict.fromkeys(known))
    hint = f"did you mean {one_of(near)}?" if near else "`aip plugins list` shows all plugins."
    return f"There is no {kind or 'plugin'} {name!r}; {hint}"


def _show_entry(console: Console, manager: PluginManager, entry: Entry) -> None:
    record, plugin = entry.record, entry.plugin
    console.print(Text.assemble((record.kind, "bold"), " ", (record.name, "bold cyan")))
    console.print(Text(f"  {plain(record.summary)}\n"))
    source = find_source(record.build, record.name)
    facts = [*_origin(plugin), ("status", _status(entry.status, entry.reason)), ("built by", Text(record.build))]
    if source is not None:
        facts.append(("source", Text(f"{source.file}:{source.line}" if source.line else str(source.file))))
    if record.docs:
        facts.append(("documentation", Text(record.docs)))
    facts.append(("use", Text(CHOSEN_BY[record.kind].format(name=record.name, suffix=getattr(record, "suffix", "")))))
    _print_facts(console, facts)
    if source is not None:
        _print_text(console, source.docstring)
    if entry.status == "ok" and record.kind not in ("writer", "command"):
        cls = manager.params_class(record.kind, record.name)
        text = inspect.cleandoc(cls.__doc__ or "")
        # "Parameters of ..." adds nothing to the heading.
        _print_text(console, "" if text.startswith("Parameters of ") else text)
        console.print(Text("\n  Parameters and their defaults", "bold"))
        prefix = PREFIXES.get(record.kind, "").format(name=record.name)
        _print_options(console, describe(cls, manager, prefix))
        if record.kind == "schedule":
            _print_curve(console, manager, record.name, cls)
    console.print()


def _print_curve(console: Console, manager: PluginManager, name: str, cls: type) -> None:
    from aipcore.cli.plot import schedule_plot

    console.print(Text(f"\n  Learning rate over {SHOWN_EPOCHS} epochs with these defaults\n", "bold"))
    # The output can be read while TensorFlow is being imported.
    console.file.flush()
    drawn = schedule_plot(manager, name, cls(), epochs=SHOWN_EPOCHS, width=console.width - 2)
    console.print(Padding(Text(drawn), (0, 0, 0, 2)))


def _show_point(console: Console, plugin: Plugin, *, debug: bool) -> None:
    console.print(Text.assemble(("entry point", "bold"), " ", (plugin.name, "bold cyan")))
    facts = [*_origin(plugin), ("status", _status(plugin.status, plugin.reason))]
    if plugin.records:
        facts.append(("registers", Text(", ".join(f"{record.kind} {record.name}" for record in plugin.records))))
    _print_facts(console, facts)
    if plugin.error is not None and debug:
        console.print(Text("\n" + "".join(traceback.format_exception(plugin.error)).rstrip()))
    elif plugin.error is not None:
        console.print(Text(f"\n  {TRACEBACK}", "dim"))
    console.print()


def _origin(plugin: Plugin) -> list[tuple[str, Text]]:
    return [("distribution", Text(plugin.source)), ("entry point", Text(f"{plugin.name} = {plugin.module}"))]


def _status(status: str, reason: str) -> Text:
    return Text(f"{status}: {reason}" if reason else status, STYLES[status])


def _print_facts(console: Console, facts: Sequence[tuple[str, Text]]) -> None:
    show_rows(console, [Row(Text(heading, "dim"), text) for heading, text in facts])


def _print_text(console: Console, text: str) -> None:
    """Print the paragraphs of a docstring, rewrapped unless they are indented or a list."""
    for paragraph in filter(None, plain(text).split("\n\n")):
        lines = paragraph.splitlines()
        rewrapped = [" ".join(lines)] if all(line[0] not in " *-" for line in lines) else lines
        console.print()
        for line in rewrapped:
            for part in Text(line).wrap(console, max(console.width - 2, 20)):
                part.rstrip()
                console.print(Text("  ").append_text(part), soft_wrap=True)


def _print_options(console: Console, options: Sequence[Description]) -> None:
    if not options:
        console.print(Text("\n  none", "dim"))
        return
    rows: list[Row] = []
    for option in options:
        name = Text.assemble((f"--{option.name}", "cyan"), (f" {option.metavar}", "dim cyan"))
        text = Text(option.help)
        if option.choices:
            text.append(f" One of: {', '.join(known for known, _ in option.choices)}.", "cyan")
        if option.limit:
            text.append(f" {option.requirement}", "dim")
        if option.aliases:
            text.append(f" Also: {', '.join(f'--{alias}' for alias in option.aliases)}.", "dim")
        if option.required:
            text.append(" Required.", "bold red")
        else:
            text.append(f" [{option.default or 'none'}]", "green")
        rows.append(Row(name, text))
    console.print()
    show_rows(console, rows)
