"""A CSV file with one row per epoch."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import keras
from aip_plugins.callbacks.params import CSVLogParams

from aipcore.errors import UsageError
from aipcore.files import no_follow
from aipcore.training.callbacks.context import RunContext


class CSVLog(keras.callbacks.Callback):
    """A CSV file of the logs of each epoch, flushed after every row.

    The file is rewritten when an epoch logs a new value (for example one measured only every few epochs). Every value
    therefore has a column, which is empty in rows without the value.
    """

    def __init__(self, path: Path, separator: str) -> None:
        super().__init__()
        self.path = path
        self.separator = separator
        self.columns: list[str] = ["epoch"]
        self.rows: list[dict[str, Any]] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Check the path of the file.

        Raises:
            UsageError: the path is a link.
        """
        if self.path.is_symlink():
            raise UsageError(f"{self.path} is a symbolic link. aip does not write through links. Remove the link.")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Append a row."""
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}}
        new = [name for name in row if name not in self.columns]
        self.columns.extend(new)
        self.rows.append(row)
        if new:
            self._write("w", self.rows)
        else:
            self._write("a", [row])

    def get_state(self) -> dict[str, Any]:
        """Return the current rows."""
        return {"columns": list(self.columns), "rows": list(self.rows)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue after the rows of a checkpoint. Later rows in the file belong to epochs that run again.

        Raises:
            ValueError: the rows are not in the format of `on_epoch_end`.
        """
        columns, rows = list(state["columns"]), [dict(row) for row in state["rows"]]
        _check(columns, rows)
        self.columns, self.rows = columns, rows
        if self.rows:
            self._write("w", self.rows)
        else:
            self.path.unlink(missing_ok=True)

    def _write(self, mode: str, rows: list[dict[str, Any]]) -> None:
        with open(self.path, mode, newline="", encoding="utf-8", opener=no_follow) as file:
            writer = csv.DictWriter(file, self.columns, delimiter=self.separator, restval="")
            if mode == "w":
                writer.writeheader()
            writer.writerows(rows)


def _check(columns: list[Any], rows: list[dict[str, Any]]) -> None:
    """Check that a state contains only numbers under valid names: a checkpoint may be untrusted."""
    named = columns[:1] == ["epoch"] and all(isinstance(name, str) and name.isprintable() for name in columns)
    if not named or len(set(columns)) < len(columns):
        raise ValueError("the columns are not epoch and names of values")
    for row in rows:
        numbers = all(type(value) in (int, float) for value in row.values())
        if not row.keys() <= set(columns) or not numbers or type(row.get("epoch")) is not int:
            raise ValueError(f"a row does not hold one number for each of its columns {', '.join(columns)}")


def build(params: CSVLogParams, context: RunContext) -> CSVLog:
    """Return the callback; the file is in the run folder."""
    return CSVLog(context.output_dir / params.file, params.separator)
