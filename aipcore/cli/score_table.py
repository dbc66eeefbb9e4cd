"""Scores as a table, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aipcore.errors import UsageError

if TYPE_CHECKING:
    from aipcore.prediction.scoring import ListScore


def show_scores(console: Console, scores: Sequence[ListScore]) -> None:
    """Prints a row for each value, a column for each list, and what evaluators have to say; plain lines into a pipe."""
    names = list(dict.fromkeys(name for score in scores for name in score.values))
    if console.is_terminal:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="cyan")
        for _ in scores:
            table.add_column(justify="right")
        if any(score.name for score in scores):
            table.add_row("", *(Text(score.name, "bold") for score in scores))
        table.add_row("samples", *(f"{score.samples:,}" for score in scores))
        for name in names:
            table.add_row(name, *(_number(score.values.get(name)) for score in scores))
        console.print(table)
    else:
        for score in scores:
            before = f"{score.name}\t" if score.name else ""
            click.echo(f"{before}samples\t{score.samples}")
            for name, value in score.values.items():
                click.echo(f"{before}{name}\t{_number(value)}")
    for score in scores:
        for text in (score.report, *score.notes):
            if text:
                click.echo(f"{score.name}: {text}" if score.name else text)


def write_scores(path: Path, scores: Sequence[ListScore], about: dict[str, Any]) -> None:
    """Writes scores to a JSON file.

    Raises:
        UsageError: it cannot be written.
    """
    lists = [
        {"name": each.name, "samples": each.samples, "values": each.values, "report": each.report, "notes": each.notes}
        for each in scores
    ]
    try:
        path.write_text(json.dumps({**about, "lists": lists}, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--json {path} cannot be written ({error.strerror}): give another file.") from error


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
