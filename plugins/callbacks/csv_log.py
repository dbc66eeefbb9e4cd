"""A CSV file with one row for each epoch."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import keras
from aip_plugins.callbacks.params import CSVLogParams

from aipcore.training.context import RunContext


class CSVLog(keras.callbacks.Callback):
    """Writes the logs of each epoch to a CSV file, flushed after every row.

    The file is rewritten as a whole when an epoch brings a value that has no column yet (one measured only every few
    epochs, say), so that every value has its column and rows without it are empty there.
    """

    def __init__(self, path: Path, separator: str) -> None:
        super().__init__()
        self.path = path
        self.separator = separator
        self.columns: list[str] = ["epoch"]
        self.rows: list[dict[str, Any]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds a row."""
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}}
        new = [name for name in row if name not in self.columns]
        self.columns.extend(new)
        self.rows.append(row)
        if new:
            self._write("w", self.rows)
        else:
            self._write("a", [row])

    def get_state(self) -> dict[str, Any]:
        """The rows so far."""
        return {"columns": list(self.columns), "rows": list(self.rows)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on after the rows of a checkpoint; later ones in the file belong to epochs that run again."""
        self.columns, self.rows = list(state["columns"]), list(state["rows"])
        if self.rows:
            self._write("w", self.rows)
        else:
            self.path.unlink(missing_ok=True)

    def _write(self, mode: str, rows: list[dict[str, Any]]) -> None:
        with self.path.open(mode, newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, delimiter=self.separator, restval="")
            if mode == "w":
                writer.writeheader()
            writer.writerows(rows)


def build(params: CSVLogParams, context: RunContext) -> CSVLog:
    """Makes the callback; the file lies in the run's output folder."""
    return CSVLog(context.output_dir / params.file, params.separator)
