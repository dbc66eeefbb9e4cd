"""Predictions for a reader: a table on a terminal, a line each into a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aipcore.cli.style import echo

if TYPE_CHECKING:
    from aipcore.prediction.predictor import Prediction

SHOWN = 200
"""Most rows of a table; a pipe gets all."""


def show_predictions(console: Console, predictions: Iterable[Prediction]) -> None:
    """Prints predictions: what was predicted of, by its path if its meta has one, and each output."""
    if not console.is_terminal:
        for each in predictions:
            values = "\t".join(
                f"{name}={_text(value)}" if name else _text(value) for name, value in each.outputs.items()
            )
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
            table.add_row("", *(Text(name or "output", "bold") for name in each.outputs))
        count += 1
        if count <= SHOWN:
            table.add_row(Text(label(each)), *(Text(_text(value)) for value in each.outputs.values()))
    if table is not None:
        console.print(table)
    if count > SHOWN:
        echo(f"... and {count - SHOWN:,} more: write them all to a file by --output FILE.")


def label(prediction: Prediction) -> str:
    """What a prediction is of: the path in its meta, other short meta, or the number of the sample."""
    meta = prediction.meta
    if isinstance(meta, Mapping) and "path" in meta:
        return str(meta["path"])
    return meta if isinstance(meta, str) else str(prediction.index)


def _text(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{float(value):.4g}"
    if isinstance(value, np.ndarray):
        if value.ndim == 0:
            return _text(value[()])
        if value.size > 12:
            return f"{value.dtype}{list(value.shape)}"
        return np.array2string(value, precision=4, separator=" ", max_line_width=1000).replace("\n", "")
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)
