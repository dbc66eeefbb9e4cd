"""Signals: the first asks the loop to finish its chunk, the second ends the process, a watchdog ends a stuck one."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any

from aipcore.distributed.process_group import ProcessGroup
from aipcore.errors import Terminated

AT_ONCE_SECONDS = 2.0
"""How long the process may take to end after a second signal."""

NOTICE_SECONDS = 1.0
"""How long the last notice may take: what shows it may hang as well."""


class LastResort:
    """Ends the process a while after a signal, whatever it is doing; to be started and stopped in the main thread.

    Args:
        signals: which signals.
        grace_seconds: after the first one; after a second one it is `AT_ONCE_SECONDS`.
        notify: is told that the grace time is over, in a sentence.
    """

    def __init__(self, signals: Collection[int], grace_seconds: float, notify: Callable[[str], object]) -> None:
        self._signals = signals
        self._grace = grace_seconds
        self._notify = notify
        self._previous = -1
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listens from now on."""
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._previous = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="aip-signals", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends nothing any more."""
        if self._thread is None:
            return
        signal.set_wakeup_fd(self._previous)
        self._writer.close()
        self._thread.join()
        self._thread = None
        self._reader.close()

    def _watch(self) -> None:
        received: list[int] = []
        deadline = float("inf")
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                self._end(received)
            self._reader.settimeout(None if left == float("inf") else left)
            try:
                numbers = self._reader.recv(64)
            except TimeoutError:
                continue
            if not numbers:
                return
            if self._previous != -1:
                # That of an event loop, which this process may run in.
                with suppress(OSError):
                    os.write(self._previous, numbers)
            for number in numbers:
                if number in self._signals and len(received) < 2:
                    received.append(number)
                    deadline = time.monotonic() + (self._grace if len(received) == 1 else AT_ONCE_SECONDS)

    def _end(self, received: list[int]) -> None:
        if len(received) == 1:
            notice = threading.Thread(target=self._say, daemon=True)
            notice.start()
            notice.join(NOTICE_SECONDS)
        # Neither other threads nor handlers at exit are waited for: they may be what hangs.
        os._exit(128 + received[-1])

    def _say(self) -> None:
        self._notify(
            f"The run did not end within {self._grace:g} s (trainer.grace_seconds): it ends here, "
            "and the last complete checkpoint is what there is."
        )
        sys.stdout.flush()


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

    def agree(self, processes: ProcessGroup, *, stop: bool) -> bool:
        """Has all workers stop if one of them wants to; to be called by all at the same point.

        Args:
            processes: those of the run.
            stop: whether this one wants to for another reason than a signal.

        Returns:
            whether one of them does, for such a reason.
        """
        wishes = processes.exchange("stop", [self.noted, stop])
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
