"""When checkpoints are written during an epoch, and the thread that writes them while training goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from aipcore.errors import TrainingError
from aipcore.training.params import CheckpointParams


class SavePolicy:
    """Says at the end of a chunk whether a checkpoint is due, by steps or by minutes since the last one.

    Nothing that is computed depends on it. Minutes are counted by a clock that nobody sets.
    """

    def __init__(self, params: CheckpointParams, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_steps = params.every_steps
        self._every_seconds = None if params.every_minutes is None else 60 * params.every_minutes
        self._clock = clock
        self._step = 0
        self._time = clock()

    @property
    def active(self) -> bool:
        """Whether there can be one within an epoch."""
        return self._every_steps is not None or self._every_seconds is not None

    def chunk(self, chunk: int) -> int:
        """The most batches in a chunk, at most `chunk`, such that chunks end where checkpoints by steps are due."""
        if self._every_steps is None:
            return chunk
        pieces = -(-self._every_steps // chunk)
        return -(-self._every_steps // pieces)

    def due(self, step: int) -> bool:
        """Whether a checkpoint is due, `step` batches into the run."""
        if self._every_steps is not None and step // self._every_steps > self._step // self._every_steps:
            return True
        return self._every_seconds is not None and self._clock() - self._time >= self._every_seconds

    def saved(self, step: int) -> None:
        """Counts from this checkpoint on."""
        self._step, self._time = step, self._clock()


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
