"""The implementation of `aip plugins check`: it runs the checks and prints a line for each."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import click

from aipcore.hooks.discovery import KINDS, Entry
from aipcore.hooks.manager import PluginManager
from aipcore.params.names import count
from aipcore.testing import CheckResult, run_checks
from aipcore.testing.runner import find_entries

STYLES = {"passed": "green", "failed": "bold red", "skipped": "dim", "expected failure": "yellow"}
MARKS = {"passed": "✓", "failed": "✗", "skipped": "-", "expected failure": "!"}


def chosen_entries(manager: PluginManager, names: Sequence[str], kind: str | None, *, every: bool) -> list[Entry]:
    """Return the plugins to check.

    Raises:
        PluginError: a name is unknown or belongs to an unusable plugin.
    """
    if every:
        return [entry for each in KINDS if kind in (None, each) for entry in manager.of_kind(each)]
    found = [entry for name in names for entry in find_entries(manager, name, kind)]
    return [entry for index, entry in enumerate(found) if entry not in found[:index]]


def check_plugins(manager: PluginManager, entries: Sequence[Entry], broken: Sequence[str], *, as_json: bool) -> bool:
    """Run all checks of these plugins and print the results.

    Args:
        manager: plugin manager.
        entries: plugins to check.
        broken: errors of plugins that failed to load, each of which counts as a failure.
        as_json: if True, print one JSON object at the end instead of lines.

    Returns:
        True if nothing failed.
    """
    started = time.perf_counter()
    # Some checks compare bit-identical results. GPUs sum in a varying order, which changes the last bits.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    results: list[CheckResult] = []
    show = _show_nothing if as_json else _show_on_terminal if sys.stdout.isatty() else _show_line
    previous: CheckResult | None = None
    for result in run_checks(entries, manager=manager):
        show(result, previous)
        results.append(result)
        previous = result
    seconds = time.perf_counter() - started
    if as_json:
        content = {"results": [result.as_json() for result in results], "broken": list(broken), "seconds": seconds}
        click.echo(json.dumps({**content, "counts": _counts(results)}, indent=2))
    else:
        for text in broken:
            click.echo(click.style(f"failed: {text}", fg="red"))
        click.echo(_summary(results, len(entries), broken, seconds))
    return not broken and not any(result.is_failure for result in results)


def _counts(results: Iterable[CheckResult]) -> dict[str, int]:
    counts = dict.fromkeys(STYLES, 0)
    for result in results:
        counts[result.status] += 1
    return counts


def _summary(results: Sequence[CheckResult], plugins: int, broken: Sequence[str], seconds: float) -> str:
    counts = {status: count for status, count in _counts(results).items() if count or status == "passed"}
    listed = ", ".join(
        click.style(f"{count} {status}", fg="red" if status == "failed" else None) for status, count in counts.items()
    )
    lost = f", {len(broken)} not loaded" if broken else ""
    what = f"{count(len(results), 'check')} of {count(plugins, 'plugin')}"
    return f"{what} in {seconds:.1f} s: {listed}{lost}"


def _show_nothing(result: CheckResult, previous: CheckResult | None) -> None:
    del result, previous


def _show_line(result: CheckResult, previous: CheckResult | None) -> None:
    del previous
    text = f"{result.status}  {result.kind} {result.plugin}  {result.check}  {result.seconds:.2f} s"
    click.echo(f"{text}  {result.reason}".rstrip())


def _show_on_terminal(result: CheckResult, previous: CheckResult | None) -> None:
    from rich.table import Table
    from rich.text import Text

    from aipcore.console import Console

    console: Any = Console(highlight=False)
    if previous is None or (previous.kind, previous.plugin) != (result.kind, result.plugin):
        console.print(Text.assemble((result.kind, "bold"), " ", (result.plugin, "bold cyan")))
    style = STYLES[result.status]
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(width=3, justify="right")
    table.add_column(width=min(33, console.width // 2), overflow="fold")
    table.add_column(ratio=1)
    table.add_column(width=8, justify="right")
    table.add_row(
        Text(MARKS[result.status], style),
        Text(result.check, style),
        Text(result.reason, "" if result.is_failure else "dim"),
        Text(f"{result.seconds:.2f} s", "dim"),
    )
    console.print(table)
