"""Connections on which nothing is said until a worker ends: they tell how, or that it is just gone."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping

from aipcore.devices.channel import Channel, Message
from aipcore.params.names import printable

GRACE = 3.0
"""Seconds that a worker has to find the same error itself (bad data, say) after another has ended with it."""

FAREWELL = 2.0
"""Seconds for the last words: giving the terminal back, and the message."""

MOST_CHARACTERS = 10_000
"""Characters of a sentence that are sent."""


class Lifelines:
    """Ends this process when a peer has failed or is gone: it may be waiting for that peer, and would forever.

    The chief has a lifeline to each other worker, these have one to the chief, who passes on what it hears.

    Args:
        peers: the channels, by the name that messages call the worker at the other end.
        last_words: shows a sentence to the user.
    """

    def __init__(self, peers: Mapping[str, Channel], last_words: Callable[[str], None]) -> None:
        self._peers = dict(peers)
        self._last_words = last_words
        self._lock = threading.Lock()
        self._leaving = False
        self._cleanups: list[Callable[[], None]] = []
        self._threads = [
            threading.Thread(target=self._watch, args=item, name="aip-lifeline", daemon=True)
            for item in self._peers.items()
        ]
        for thread in self._threads:
            thread.start()

    def before_exit(self, cleanup: Callable[[], None]) -> None:
        """Has `cleanup` called if this process is ended, since nothing else of it will run then."""
        self._cleanups.append(cleanup)

    def leave(self) -> None:
        """Says good-bye to all; whatever they do from now on is no failure."""
        self._end(Message(about="bye"))
        for thread in self._threads:
            thread.join(FAREWELL)
        for channel in self._peers.values():
            channel.shut()
            channel.close()

    def fail(self, sentence: str) -> None:
        """Tells all peers why this worker ends."""
        self._end(Message(about="failed", value=sentence[:MOST_CHARACTERS]))

    def _end(self, message: Message) -> None:
        with self._lock:
            self._leaving = True
        self._tell(message)

    def _tell(self, message: Message) -> None:
        for channel in self._peers.values():
            try:
                channel.send(message)
            except OSError:
                continue  # That one is gone itself.

    def _watch(self, name: str, channel: Channel) -> None:
        try:
            message = channel.receive_small()
        except (OSError, EOFError):
            self._give_up(f"{name} is gone: it was killed, or its host or network failed", 0.0)
            return
        if message.about == "failed":
            self._give_up(f"{name} ended: {printable(message.value)}", GRACE)
        elif message.about == "over":
            self._give_up(printable(message.value), 0.0)

    def _give_up(self, reason: str, grace: float) -> None:
        """Ends the process, from another thread than the one that computes and cannot be interrupted."""
        time.sleep(grace)
        with self._lock:
            if self._leaving:
                return
            self._leaving = True
        last = threading.Thread(target=self._say_and_clean, args=[reason], daemon=True)
        last.start()
        last.join(FAREWELL)
        self._tell(Message(about="over", value=reason))
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(1)

    def _say_and_clean(self, reason: str) -> None:
        self._last_words(reason)
        for cleanup in self._cleanups:
            cleanup()
