"""Ending a run on SIGINT or SIGTERM: the first asks the loop to finish its chunk, the second ends at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from aipcore.devices.workers import Workers

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A context in which signals are noted instead of raised.

    Attributes:
        noted: the first signal that came, or None.
        received: what the run goes by: that signal, once all workers of the run have agreed to stop.
    """

    def __init__(self, notify: Callable[[str], None]) -> None:
        self.noted: signal.Signals | None = None
        self.received: signal.Signals | None = None
        self._notify = notify
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.noted is not None:
            raise KeyboardInterrupt
        self.noted = signal.Signals(number)
        self._notify("Stopping after this chunk and saving; press Ctrl-C again to stop at once.")
