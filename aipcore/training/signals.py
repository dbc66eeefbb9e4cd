"""Signal handling: the first signal stops after the current chunk, the second ends the process, or a watchdog does."""

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
"""Seconds for the process to end after a second signal."""

NOTICE_SECONDS = 1.0
"""Seconds for the final notice, which may hang too."""

UNSAVED = "Stopped without saving."


class LastResort:
    """A watchdog that forces exit if a signal is ignored for `grace_seconds`. Start and stop it in the main thread.

    Args:
        signals: the handled signals.
        grace_seconds: seconds after the first signal; after a second one, `AT_ONCE_SECONDS` apply.
        notify: receives the reason and the command that resumes the run.
        advice: returns this command on a line of its own; empty if there is none.
    """

    def __init__(
        self,
        signals: Collection[int],
        grace_seconds: float,
        notify: Callable[[str], object],
        advice: Callable[[], str],
    ) -> None:
        self._signals = signals
        self._grace = grace_seconds
        self._notify, self._advice = notify, advice
        self._previous = -1
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start listening."""
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._previous = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="aip-signals", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; the process is no longer ended."""
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
                # Forward to the event loop that this process may run in.
                with suppress(OSError):
                    os.write(self._previous, numbers)
            for number in numbers:
                if number in self._signals and len(received) < 2:
                    received.append(number)
                    deadline = time.monotonic() + (self._grace if len(received) == 1 else AT_ONCE_SECONDS)

    def _end(self, received: list[int]) -> None:
        reason = f"The run did not stop within {self._grace:g} s (trainer.grace_seconds) and is killed."
        notice = threading.Thread(target=self._say, args=(reason if len(received) == 1 else UNSAVED,), daemon=True)
        notice.start()
        notice.join(NOTICE_SECONDS)
        # Do not wait for other threads or exit handlers: they may be the cause of the hang.
        os._exit(128 + received[-1])

    def _say(self, reason: str) -> None:
        self._notify(f"{reason}{self._advice()}")
        sys.stdout.flush()


SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal was received during work that can be abandoned. Not an `Exception`, so it is not caught by accident."""


class Interruption:
    """A context in which signals are recorded instead of raised.

    Attributes:
        noted: the first signal received, or None.
        received: the signal that ends the run, set once all workers of the run have agreed to stop.

    Args:
        notify: shows a message to the user.
        grace_seconds: seconds after which the process is forced to exit; see `LastResort`.
        resume: returns the command that resumes the run from its last checkpoint; empty if there is none.
        alone: True if there are no other workers to agree with.
        owns_process: True if the process may be ended; otherwise `grace_seconds` has no effect.
    """

    def __init__(
        self,
        notify: Callable[[str], None],
        grace_seconds: float,
        resume: Callable[[], str],
        *,
        alone: bool = True,
        owns_process: bool = True,
    ) -> None:
        self.noted: signal.Signals | None = None
        self._alone = alone
        self.received: signal.Signals | None = None
        self._notify, self._resume = notify, resume
        self._last_resort = LastResort(SIGNALS, grace_seconds, notify, self._advice) if owns_process else None
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
        """Stop all workers if one of them wants to stop. All workers must call this at the same point.

        Args:
            processes: the processes of the run.
            stop: True if this worker wants to stop for a reason other than a signal.

        Returns:
            True if any worker wants to stop for such a reason.
        """
        wishes = processes.exchange("stop", [self.noted, stop])
        told = [(index, number) for index, (number, _) in enumerate(wishes) if number is not None]
        if told and self.received is None:
            index, number = told[0]
            self.received = signal.Signals(number)
            if self.noted is None:
                self._notify(f"Worker {index} received {self.received.name}. Stopping and saving.")
            self.noted = self.received
        return any(wish for _, wish in wishes)

    @contextmanager
    def breaking(self) -> Iterator[None]:
        """Make a signal raise `Interrupted` immediately within the context. For long work that changes no saved state.

        This has no effect with several workers, which would have to stop at the same point.
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
            raise (Terminated if number == signal.SIGTERM else KeyboardInterrupt)(f"{UNSAVED}{self._advice()}")
        self.noted = signal.Signals(number)
        self._notify("Stopping and saving. Press Ctrl-C again to stop without saving.")
        if self._breaks:
            self._breaks = False
            self.received = self.noted
            raise Interrupted

    def _advice(self) -> str:
        command = self._resume()
        return f"\nResume with: {command}" if command else ""
