"""Ending a run on SIGINT or SIGTERM: the first asks the loop to finish its chunk, the second ends at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from aipcore.devices.workers import Workers
from aipcore.errors import Terminated
from aipcore.training.last_resort import LastResort

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal came while something ran that is not worth finishing; no `Exception`, so that nobody swallows it."""


class Interruption:
    """A context in which signals are noted instead of raised.

    Attributes:
        noted: the first signal that came, or None.
        received: what the run goes by: that signal, once all workers of the run have agreed to stop.

    Args:
        notify: is told what happens now.
        grace_seconds: after this time the process ends, whatever it is doing; see `LastResort`.
        alone: whether this process need not agree with other workers.
        owns_process: whether the process may be ended; otherwise `grace_seconds` means nothing.
    """

    def __init__(
        self, notify: Callable[[str], None], grace_seconds: float, *, alone: bool = True, owns_process: bool = True
    ) -> None:
        self.noted: signal.Signals | None = None
        self._alone = alone
        self.received: signal.Signals | None = None
        self._notify = notify
        self._last_resort = LastResort(SIGNALS, grace_seconds, notify) if owns_process else None
        self._breaks = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
            if self._last_resort is not None:
                self._last_resort.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._last_resort is not None:
            self._last_resort.stop()
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def agree(self, workers: Workers, *, stop: bool) -> bool:
        """Has all workers stop if one of them wants to; to be called by all at the same point.

        Args:
            workers: those of the run.
            stop: whether this one wants to for another reason than a signal.

        Returns:
            whether one of them does, for such a reason.
        """
        wishes = workers.exchange("stop", [self.noted, stop])
        told = [(index, number) for index, (number, _) in enumerate(wishes) if number is not None]
        if told and self.received is None:
            index, number = told[0]
            self.received = signal.Signals(number)
            if self.noted is None:
                self._notify(f"Stopping and saving, since worker {index} received {self.received.name}.")
            self.noted = self.received
        return any(wish for _, wish in wishes)

    @contextmanager
    def breaking(self) -> Iterator[None]:
        """Within, a signal raises `Interrupted` at once: for what is long and changes nothing that is saved.

        Not where other workers would have to break off at the same point.
        """
        if not self._alone:
            yield
            return
        if self.noted is not None:
            self.received = self.noted
            raise Interrupted
        self._breaks = True
        try:
            yield
        finally:
            self._breaks = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.noted is not None:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        self.noted = signal.Signals(number)
        what = "now" if self._breaks else "after this chunk"
        self._notify(f"Stopping {what} and saving; press Ctrl-C again to stop at once.")
        if self._breaks:
            self._breaks = False
            self.received = self.noted
            raise Interrupted
