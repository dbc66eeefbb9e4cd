"""The end of a process that a signal should have ended and did not: a thread that needs nobody's leave.

Python handles a signal between two instructions of the main thread, so never while that is in an operation of
TensorFlow that does not return. What the interpreter does at once is write the signal's number to a file descriptor;
from there a thread takes it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress

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
