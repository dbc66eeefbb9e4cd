"""Training loops that wait for their turn after each epoch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

Seconds = float
"""Yielded by each peer, a generator: the time from its start to its first update, then the time of each epoch."""


class Turns:
    """The turns of a training loop that runs in a thread and calls this object."""

    def __init__(self) -> None:
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._started = self._begun = time.perf_counter()
        self._first = self._seconds = 0.0
        self._error: BaseException | None = None

    def updated(self) -> None:
        """Record the first update."""
        self._first = self._first or time.perf_counter() - self._started

    def epoch_ended(self) -> None:
        """Record an epoch, and wait for the next turn."""
        self._seconds = time.perf_counter() - self._begun
        self._done.release()
        self._go.acquire()
        self._begun = time.perf_counter()

    def run(self, train: Callable[[], object]) -> Iterator[Seconds]:
        """Train for as many epochs as are asked for.

        Raises:
            BaseException: training failed.
        """

        def target() -> None:
            try:
                train()
                raise RuntimeError("training ended")
            except BaseException as error:
                self._error = error
                self._done.release()

        threading.Thread(target=target, daemon=True).start()
        self._wait()
        yield self._first
        while True:
            self._go.release()
            self._wait()
            yield self._seconds

    def _wait(self) -> None:
        self._done.acquire()
        if self._error is not None:
            raise self._error
