"""The files of a run: event files, models and checkpoints, written in the background where possible."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from aipcore.errors import FolderMovedError, FormatError, TrainingError
from aipcore.scenario.summaries import Summary
from aipcore.training.checkpoint.format import Checkpoint, write_checkpoint
from aipcore.training.export.writer import ModelWriter
from aipcore.training.params import CheckpointParams
from aipcore.training.reporter import by_part
from aipcore.training.run_folder import HeldFolder
from aipcore.training.tensorboard.events import EventWriter


class BackgroundWriter:
    """Runs one write at a time in a thread of its own, and keeps its error until somebody asks.

    The thread is started for each write, so that none is left over between two. Who uses this drains it at the end; a
    process that is to end at once leaves a write half done, which is a folder that no reader looks at.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: TrainingError | None = None

    @property
    def busy(self) -> bool:
        """Whether a write is going on."""
        return self._thread is not None and self._thread.is_alive()

    def submit(self, write: Callable[[], object]) -> None:
        """Begins a write, after the one before has ended.

        Raises:
            TrainingError: that one failed.
        """
        self.drain()

        def work() -> None:
            try:
                write()
            except TrainingError as error:
                self._error = error
            except BaseException as error:
                self._error = TrainingError(f"The checkpoint could not be written: {type(error).__name__}: {error}.")
                self._error.__cause__ = error

        self._thread = threading.Thread(target=work, name="aip-checkpoint", daemon=True)
        self._thread.start()

    def drain(self) -> None:
        """Waits for the write that is going on.

        Raises:
            TrainingError: it failed.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Raises the error of a write that has failed, once."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error


FOLDERS = ("best", "export", "checkpoint")
"""What a user can go on with."""


class RunWriter:
    """Writes what a run leaves; without a folder, nothing.

    A folder that is moved meanwhile is written to where it is, until the run asks `refuse_moved`. Callbacks have files
    of their own, so a run cannot go on for long.

    Args:
        folder: the run's output folder, or None.
        writer: writes the model with its current weights.
        params: how many checkpoints to keep, and what to do when something cannot be written.
        warn: is told what could not be written, if training goes on.
    """

    def __init__(
        self, folder: Path | None, writer: ModelWriter, *, params: CheckpointParams, warn: Callable[[str], None]
    ) -> None:
        self._held = None if folder is None else HeldFolder(folder)
        self._moved: FolderMovedError | None = None
        self._writer = writer
        self._params = params
        self._warn = warn
        self._background = BackgroundWriter()
        self._formats_failed: dict[str, FormatError] = {}
        self._events = None if folder is None else EventWriter(folder / "tensorboard")

    @property
    def folder(self) -> Path | None:
        """The run's folder, where it is now.

        Raises:
            FolderMovedError: it was deleted, or cannot be found.
        """
        if self._held is None:
            return None
        try:
            self._held.check()
        except FolderMovedError as moved:
            if moved.found is None:
                raise
            self._moved = moved
            self._held.path = moved.found
            if self._events is not None:
                self._events.folder = moved.found / "tensorboard"
        return self._held.path

    def is_moved(self) -> bool:
        """Whether the folder is no longer where it was when the run began."""
        return self.folder is not None and self._moved is not None

    def refuse_moved(self) -> None:
        """End a run whose folder is no longer where it was when the run began.

        Raises:
            FolderMovedError: it is elsewhere, deleted or replaced by another.
        """
        if self.is_moved():
            assert self._moved is not None
            self.drain()
            raise self._moved

    def log(self, epoch: int, logs: Mapping[str, float], lav: Sequence[str]) -> None:
        """Adds the logs of an epoch to the event files.

        Args:
            epoch: counted from 1.
            logs: all values; those of validation begin with `val_`, those of a LAV list with its part's name and `_`.
            lav: the parts of the extended validation that ran, such as `lav`.
        """
        for part, values in by_part(logs, lav).items():
            self.log_scalars(part, epoch, values)

    def log_scalars(self, part: str, epoch: int, values: Mapping[str, float]) -> None:
        """Adds one point to each curve of a part."""
        self._write_events(lambda events: events.write(part, epoch, values))

    def log_summaries(self, epoch: int, records: Iterable[Summary], *, part: str = "validation") -> None:
        """Adds what the scenario shows of the validation data, or a callback, beside the curves of a part."""
        self._write_events(lambda events: events.write_summaries(part, epoch, records))

    def _write_events(self, write: Callable[[EventWriter], object]) -> None:
        # Finds the folder: files of other parts may still have to be made.
        if self._events is None or self.folder is None:
            return
        try:
            write(self._events)
        except (OSError, tf.errors.OpError) as error:
            reason = getattr(error, "message", None) or str(error)
            self._failed(TrainingError(f"The event files could not be written ({reason}): make room on the disk."))

    def write_model(self, name: str, about: Mapping[str, Any], *, compare: bool = False) -> None:
        """Writes the model to the folder of this name, `best` or `export`, with a note of what it is.

        If some of its formats fail, the others are written and the run goes on; see `check_formats`.

        Args:
            name: of the folder.
            about: the note.
            compare: whether to compare what was written with the model.

        Raises:
            TrainingError: it cannot be written, and `checkpoint.on_error` is raise; what was there before stays.
        """
        folder = self.folder
        if folder is None:
            return
        try:
            self._writer.write(folder / name, about, compare=compare)
        except FormatError as error:
            if str(error) != str(self._formats_failed.get(name)):
                self._warn(f"{name}: {error}")
            self._formats_failed[name] = error
        except TrainingError as error:
            if self.folder != folder:
                # It was moved meanwhile.
                self.write_model(name, about, compare=compare)
            else:
                self._failed(error)
        else:
            self._formats_failed.pop(name, None)

    def check_formats(self) -> None:
        """Ends a run that is complete but for a format that its models could not be written in.

        Raises:
            FormatError: there is one, and `checkpoint.on_error` is raise.
        """
        if self._formats_failed and self._params.on_error == "raise":
            reasons = " ".join(dict.fromkeys(map(str, self._formats_failed.values())))
            raise FormatError(
                f"A format is missing in {' and '.join(self._formats_failed)}, the rest is complete: {reasons}"
            )

    def write_checkpoint(self, step: int, state: Checkpoint, *, wait: bool = False) -> bool:
        """Writes the state after `step` batches, in the background, once the one before is written.

        Args:
            step: what names the checkpoint.
            state: which nothing changes any more.
            wait: whether to return only when it is on the disk.

        Returns:
            whether the write began, or with `wait`, whether it succeeded.

        Raises:
            TrainingError: this one or the one before could not be written, and `checkpoint.on_error` is raise.
        """
        if self._held is None:
            return False
        self.drain()
        folder = self.folder
        assert folder is not None
        self._background.submit(lambda: write_checkpoint(folder / "checkpoint", step, state, keep=self._params.keep))
        return self.drain() if wait else True

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._background.busy

    def drain(self) -> bool:
        """Waits until nothing is being written; whether all went well.

        Raises:
            TrainingError: it did not, and `checkpoint.on_error` is raise.
        """
        try:
            self._background.drain()
        except TrainingError as error:
            self._failed(error)
            return False
        return True

    def check(self) -> None:
        """Says now what went wrong in the background.

        Raises:
            TrainingError: something did, and `checkpoint.on_error` is raise.
        """
        try:
            self._background.check()
        except TrainingError as error:
            self._failed(error)

    def _failed(self, error: TrainingError) -> None:
        if self.is_moved():
            # A checkpoint that was being written at the old place. The run ends, with one at the new place.
            return
        if self._params.on_error == "raise":
            raise error
        self._warn(f"{error} Training goes on (checkpoint.on_error warn).")

    def saved(self) -> list[str]:
        """The names of what there is to go on with."""
        folder = self.folder
        return [name for name in FOLDERS if folder is not None and (folder / name).exists()]

    def close(self) -> None:
        """Waits for the last checkpoint and ends the event files.

        Raises:
            TrainingError: see `drain`.
        """
        try:
            self.drain()
        finally:
            if self._events is not None:
                self._events.close()
            if self._held is not None:
                self._held.close()
