"""The files of a run: event files, models and checkpoints, written in the background where possible."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from aipcore.errors import FolderMovedError, FormatError, TrainingError
from aipcore.scenario.preprocessing import FOLDER as PREPROCESSING
from aipcore.scenario.preprocessing import RECORD, Preprocessing
from aipcore.scenario.summaries import Summary
from aipcore.training.checkpoint.atomic import replaced_dir
from aipcore.training.checkpoint.format import Checkpoint, write_checkpoint
from aipcore.training.export.writer import ModelWriter
from aipcore.training.params import CheckpointParams
from aipcore.training.reporter import by_part
from aipcore.training.run_folder import HeldFolder
from aipcore.training.tensorboard.events import EventWriter


class BackgroundWriter:
    """A runner of one write at a time in a separate thread, which keeps errors until `check` or `drain`.

    Each write has its own thread, so no thread remains between two writes. Drain the writer at the end. A process that
    is killed leaves an unfinished folder, which readers ignore.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: TrainingError | None = None

    @property
    def busy(self) -> bool:
        """True while a write is in progress."""
        return self._thread is not None and self._thread.is_alive()

    def submit(self, write: Callable[[], object]) -> None:
        """Start a write after the previous one has ended.

        Raises:
            TrainingError: the previous write failed.
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
        """Wait for the write in progress.

        Raises:
            TrainingError: it failed.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Raise the error of a failed write, once."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error


FOLDERS = ("best", "export", "checkpoint")
"""Folders that a user can continue to work with."""


class RunWriter:
    """The writer of a run's files. Without a folder, it writes nothing.

    If the folder is moved, files go to its new place, until the run calls `refuse_moved`. Callbacks write their own
    files, so such a run cannot continue for long.

    Args:
        folder: the run's output folder, or None.
        writer: writes the model with its current weights.
        params: number of checkpoints to keep, and the reaction to files that cannot be written.
        warn: shows a write failure to the user if training continues.
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
        """The current path of the run folder.

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
        """Return True if the folder has been moved since the run began."""
        return self.folder is not None and self._moved is not None

    def refuse_moved(self) -> None:
        """End the run if its folder has been moved since it began.

        Raises:
            FolderMovedError: the folder was moved, deleted or replaced by another.
        """
        if self.is_moved():
            assert self._moved is not None
            self.drain()
            raise self._moved

    def log(self, epoch: int, logs: Mapping[str, float], lav: Sequence[str]) -> None:
        """Add the logs of an epoch to the event files.

        Args:
            epoch: counted from 1.
            logs: all values; names of validation values begin with `val_`, those of a LAV list with its part's name and
                `_`.
            lav: the parts of LAV that ran, such as `lav`.
        """
        for part, values in by_part(logs, lav).items():
            self.log_scalars(part, epoch, values)

    def log_scalars(self, part: str, epoch: int, values: Mapping[str, float]) -> None:
        """Add one point to each curve of a part."""
        self._write_events(lambda events: events.write(part, epoch, values))

    def log_points(self, part: str, points: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        """Add points with their steps to the curves of a part."""
        self._write_events(lambda events: events.write_points(part, points))

    def log_summaries(self, epoch: int, records: Iterable[Summary], *, part: str = "validation") -> None:
        """Add summaries of the scenario or of a callback beside the curves of a part."""
        self._write_events(lambda events: events.write_summaries(part, epoch, records))

    def _write_events(self, write: Callable[[EventWriter], object]) -> None:
        # Accessing `folder` updates the path of a moved folder: files of other parts may still have to be created.
        if self._events is None or self.folder is None:
            return
        try:
            write(self._events)
        except (OSError, tf.errors.OpError) as error:
            reason = getattr(error, "message", None) or str(error)
            self._failed(TrainingError(f"The event files could not be written ({reason}). Free disk space."))

    def write_model(self, name: str, about: Mapping[str, Any], *, compare: bool = False) -> None:
        """Write the model to the folder of this name, `best` or `export`, with a description.

        If some formats fail, the others are written and the run continues; see `check_formats`.

        Args:
            name: the name of the folder.
            about: the description.
            compare: if True, compare the written model with the original.

        Raises:
            TrainingError: it cannot be written, and `checkpoint.on_error` is raise; an existing folder stays unchanged.
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
                # The folder was moved meanwhile.
                self.write_model(name, about, compare=compare)
            else:
                self._failed(error)
        else:
            self._formats_failed.pop(name, None)

    def write_preprocessing(self, preprocessing: Preprocessing | None) -> dict[str, str]:
        """Write the preprocessing to the run folder, unless it comes from there, for the checkpoints that follow.

        Returns:
            Its entry in the record of checkpoints; nothing without preprocessing or a folder.

        Raises:
            TrainingError: it cannot be written.
        """
        folder = self.folder
        if folder is None or preprocessing is None:
            return {}
        path = folder / PREPROCESSING
        try:
            if preprocessing.folder != path:
                with replaced_dir(path) as fresh:
                    preprocessing.digest = preprocessing.save(fresh)
                preprocessing.folder = path
            assert preprocessing.digest is not None
            return {RECORD: preprocessing.digest}
        except (OSError, tf.errors.OpError) as error:
            reason = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
            raise TrainingError(
                f"The preprocessing could not be written to {path} ({reason}). Free disk space, or fix the permissions "
                "of the folder."
            ) from error

    def check_formats(self) -> None:
        """End a run that is complete except for a format that could not be written.

        Raises:
            FormatError: there is such a format, and `checkpoint.on_error` is raise.
        """
        if self._formats_failed and self._params.on_error == "raise":
            reasons = " ".join(dict.fromkeys(map(str, self._formats_failed.values())))
            raise FormatError(
                f"A format is missing in {' and '.join(self._formats_failed)}. Everything else is complete. {reasons}"
            )

    def write_checkpoint(self, step: int, state: Checkpoint, *, wait: bool = False) -> bool:
        """Write the state after `step` batches, in the background, after the previous checkpoint is written.

        Args:
            step: the number that names the checkpoint.
            state: the state, which must no longer change.
            wait: if True, return only when the checkpoint is on disk.

        Returns:
            True if the write has started, or with `wait`, if it succeeded.

        Raises:
            TrainingError: this checkpoint or the previous one could not be written, and `checkpoint.on_error` is raise.
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
        """True while a checkpoint is being written."""
        return self._background.busy

    def drain(self) -> bool:
        """Wait until no write is in progress; return True if all succeeded.

        Raises:
            TrainingError: a write failed, and `checkpoint.on_error` is raise.
        """
        try:
            self._background.drain()
        except TrainingError as error:
            self._failed(error)
            return False
        return True

    def check(self) -> None:
        """Report failures of background writes.

        Raises:
            TrainingError: a write failed, and `checkpoint.on_error` is raise.
        """
        try:
            self._background.check()
        except TrainingError as error:
            self._failed(error)

    def _failed(self, error: TrainingError) -> None:
        if self.is_moved():
            # A checkpoint was being written at the old place. The run ends with a checkpoint at the new place.
            return
        if self._params.on_error == "raise":
            raise error
        self._warn(f"{error} Training continues (checkpoint.on_error warn).")

    def saved(self) -> list[str]:
        """Return the names of the folders that exist and can be used further."""
        folder = self.folder
        return [name for name in FOLDERS if folder is not None and (folder / name).exists()]

    def resume_command(self, command: str) -> Callable[[], str]:
        """Return a function that returns the command that resumes the run; it is empty without a checkpoint."""
        return lambda: command if "checkpoint" in self.saved() else ""

    def close(self) -> None:
        """Wait for the last checkpoint and close the event files.

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
