"""Scores as a table, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aipcore.cli.style import echo
from aipcore.errors import UsageError

if TYPE_CHECKING:
    from aipcore.prediction.scoring import ListScore


def show_scores(console: Console, scores: Sequence[ListScore]) -> None:
    """Prints a row for each value, a column for each list, and what evaluators have to say; plain lines into a pipe.

    Of models that vote, each model's own values follow those of the vote.
    """
    columns = list(_columns(scores))
    names = list(dict.fromkeys(name for _, _, values in columns for name in values))
    if console.is_terminal:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="cyan")
        for _ in columns:
            table.add_column(justify="right")
        if any(heading for heading, _, _ in columns):
            table.add_row("", *(Text(heading, "bold") for heading, _, _ in columns))
        table.add_row("samples", *(f"{samples:,}" for _, samples, _ in columns))
        for name in names:
            table.add_row(name, *(_number(values.get(name)) for _, _, values in columns))
        console.print(table)
    else:
        for heading, samples, values in columns:
            before = f"{heading}\t" if heading else ""
            echo(f"{before}samples\t{samples}")
            for name, value in values.items():
                echo(f"{before}{name}\t{_number(value)}")
    for score in scores:
        for text in (score.report, *map(str, score.shown), *score.notes):
            if text:
                echo(f"{score.name}: {text}" if score.name else text)


def _columns(scores: Sequence[ListScore]) -> Iterator[tuple[str, int, Mapping[str, float]]]:
    """Yield the heading, number of samples and values of each list, and of each model that voted on it."""
    for score in scores:
        yield (
            " ".join(part for part in (score.name, "vote" if score.models else "") if part),
            score.samples,
            score.values,
        )
        for model, values in score.models.items():
            yield f"{score.name} {model}".strip(), score.samples, values


def write_scores(path: Path, scores: Sequence[ListScore], about: dict[str, Any]) -> None:
    """Writes scores to a JSON file.

    Raises:
        UsageError: it cannot be written.
    """
    lists = [
        {"name": each.name, "samples": each.samples, "values": each.values, "report": each.report, "notes": each.notes}
        | ({"shown": [attrs.asdict(sample) for sample in each.shown]} if each.shown else {})
        | ({"models": dict(each.models)} if each.models else {})
        for each in scores
    ]
    try:
        path.write_text(json.dumps({**about, "lists": lists}, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--json {path} cannot be written ({error.strerror}): give another file.") from error


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
