"""What a run keeps on disk: event files, the best model, checkpoints, the final model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from aipcore.scenario.summaries import Summary
from aipcore.training.checkpoint import Checkpoint, write_checkpoint
from aipcore.training.reporter import by_part
from aipcore.training.servable import ModelWriter
from aipcore.training.tensorboard import EventWriter

FOLDERS = ("best", "export", "checkpoint")
"""What a user can go on with."""


class Keeper:
    """Writes what a run leaves; without a folder, nothing.

    Args:
        folder: the run's output folder, or None.
        writer: writes the model with its current weights.
        keep: how many checkpoints to keep.
    """

    def __init__(self, folder: Path | None, writer: ModelWriter, *, keep: int) -> None:
        self.folder = folder
        self._writer = writer
        self._keep = keep
        self._events = None if folder is None else EventWriter(folder / "tensorboard")

    def log(self, epoch: int, logs: Mapping[str, float], lav: Sequence[str]) -> None:
        """Adds the logs of an epoch to the event files.

        Args:
            epoch: counted from 1.
            logs: all values; those of validation begin with `val_`, those of a LAV list with its part's name and `_`.
            lav: the parts of the extended validation that ran, such as `lav`.
        """
        if self._events is None:
            return
        for part, values in by_part(logs, lav).items():
            self._events.write(part, epoch, values)

    def log_summaries(self, epoch: int, records: Iterable[Summary]) -> None:
        """Adds what the scenario shows of the validation data to the event files, beside the curves of validation."""
        if self._events is not None:
            self._events.write_summaries("validation", epoch, records)

    def write_model(self, name: str) -> None:
        """Writes the model to the folder of this name, `best` or `export`."""
        if self.folder is not None:
            self._writer.write(self.folder / name)

    def write_checkpoint(self, step: int, checkpoint: Checkpoint) -> None:
        """Writes the state after `step` batches."""
        if self.folder is not None:
            write_checkpoint(self.folder / "checkpoint", step, checkpoint, keep=self._keep)

    def saved(self) -> list[str]:
        """The names of what there is to go on with."""
        return [name for name in FOLDERS if self.folder is not None and (self.folder / name).exists()]

    def close(self) -> None:
        """Ends the event files."""
        if self._events is not None:
            self._events.close()
