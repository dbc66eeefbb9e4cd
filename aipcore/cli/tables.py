"""Tables of scores and predictions for the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aipcore.cli.style import echo
from aipcore.errors import UsageError

if TYPE_CHECKING:
    from aipcore.prediction.evaluate_saved import ListScore
    from aipcore.prediction.predictor import Prediction


def show_scores(console: Console, scores: Sequence[ListScore]) -> None:
    """Print a row for each value, a column for each list, and the evaluators' reports. Pipes get plain lines.

    For an ensemble, the values of the single models follow those of the vote.
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
            table.add_row(name, *(_aligned(values.get(name)) for _, _, values in columns))
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
    """Yield the heading, sample count and values of each list, followed by those of each model of an ensemble."""
    for score in scores:
        yield (
            " ".join(part for part in (score.name, score.joint if score.models else "") if part),
            score.samples,
            score.values,
        )
        for model, values in score.models.items():
            yield f"{score.name} {model}".strip(), score.parts.get(model, score.samples), values


def write_scores(path: Path, scores: Sequence[ListScore], about: dict[str, Any]) -> None:
    """Write scores to a JSON file.

    Raises:
        UsageError: the file cannot be written.
    """
    lists = [
        {"name": each.name, "samples": each.samples, "values": each.values, "report": each.report, "notes": each.notes}
        | ({"shown": [attrs.asdict(sample) for sample in each.shown]} if each.shown else {})
        | ({"models": dict(each.models)} if each.models else {})
        | ({"parts": dict(each.parts)} if each.parts else {})
        for each in scores
    ]
    try:
        path.write_text(json.dumps({**about, "lists": lists}, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--json {path} cannot be written ({error.strerror}). Choose another file.") from error


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _aligned(value: float | None) -> str:
    """Return a value with six decimals, so that decimal points are aligned, unless it is too small or too large."""
    return f"{value:.6f}" if value == 0 or (value is not None and 0.001 <= abs(value) < 1e6) else _number(value)


SHOWN = 200
"""Maximum number of rows in a table. Pipes get all rows."""


def show_predictions(console: Console, predictions: Iterable[Prediction]) -> None:
    """Print predictions: the label of the sample and each output."""
    if not console.is_terminal:
        for each in predictions:
            values = "\t".join(f"{name or 'output'}={_text(value)}" for name, value in each.outputs.items())
            echo(f"{label(each)}\t{values}")
        return
    table: Table | None = None
    count = 0
    for each in predictions:
        if table is None:
            table = Table.grid(padding=(0, 2))
            table.add_column(style="cyan")
            for _ in each.outputs:
                table.add_column()
            table.add_row(Text("sample", "bold"), *(Text(name or "output", "bold") for name in each.outputs))
        count += 1
        if count <= SHOWN:
            table.add_row(Text(label(each)), *(Text(_text(value)) for value in each.outputs.values()))
    if table is not None:
        console.print(table)
    if count > SHOWN:
        echo(f"... and {count - SHOWN:,} more. Use --output FILE to write all of them.")


def label(prediction: Prediction) -> str:
    """Return the label of a sample: the path in its meta, other short meta, or its index."""
    meta = prediction.meta
    if isinstance(meta, Mapping) and "path" in meta:
        return str(meta["path"])
    return meta if isinstance(meta, str) else str(prediction.index)


def _text(value: Any) -> str:
    import numpy as np

    if isinstance(value, float | np.floating):
        return f"{float(value):#.4g}"
    if isinstance(value, np.ndarray):
        if value.ndim == 0:
            return _text(value[()])
        if value.size > 12:
            return f"{value.dtype}{list(value.shape)}"
        return np.array2string(value, precision=4, separator=" ", max_line_width=1000).replace("\n", "")
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)
