"""The processes of a distributed run: they share each batch, take the same decisions and end together."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from aipcore.distributed.channel import Arrays, Channel, Message
from aipcore.distributed.cluster import Cluster
from aipcore.errors import AipError, ParamsError, TrainingError, sentence
from aipcore.params.names import printable

GRACE = 3.0
"""Seconds for a worker to detect the same error (such as bad data) itself after another has failed with it."""

LAST_WORDS_SECONDS = 2.0
"""Seconds to restore the terminal and show the final message."""

MOST_CHARACTERS = 10_000
"""Maximum number of characters of a sentence that is sent."""


class Lifelines:
    """Connections that end this process when a peer fails or disappears, instead of waiting for that peer forever.

    The chief has a lifeline to each other worker. Each of these has one to the chief, which forwards failures.

    Args:
        peers: the channels, by the name of the worker at the other end, as used in messages.
        last_words: callback that shows a sentence to the user.
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
        """Register `cleanup` to run if this process is ended. No other cleanup code runs in that case."""
        self._cleanups.append(cleanup)

    def leave(self) -> None:
        """Announce the regular end to all peers. Anything they do afterwards is not a failure."""
        self._end(Message(about="bye"))
        for thread in self._threads:
            thread.join(LAST_WORDS_SECONDS)
        for channel in self._peers.values():
            channel.shut()
            channel.close()

    def fail(self, sentence: str) -> None:
        """Send all peers the reason for this worker's failure."""
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
                continue  # That peer is gone already.

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
        """End the process from a watching thread, since the computing thread cannot be interrupted."""
        time.sleep(grace)
        with self._lock:
            if self._leaving:
                return
            self._leaving = True
        last = threading.Thread(target=self._say_and_clean, args=[reason], daemon=True)
        last.start()
        last.join(LAST_WORDS_SECONDS)
        self._tell(Message(about="over", value=reason))
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(1)

    def _say_and_clean(self, reason: str) -> None:
        self._last_words(reason)
        for cleanup in self._cleanups:
            cleanup()


EXIT_SECONDS = 20
"""Seconds for a process to exit after an error."""

PATIENCE = 10.0
"""Seconds for a lifeline to report the missing worker after anything else has noticed the failure."""


class ProcessGroup:
    """This process and its peers. The process with index 0 is the chief.

    All workers call the same methods in the same order. As a context manager, the group reports to the peers
    how this process ends.

    Attributes:
        index: the index of this worker.
        addresses: `host:port` of each worker; empty for one worker.
        count: the number of workers.
        strategy: the TensorFlow strategy that sums the workers' gradients; None for one worker.
    """

    strategy: Any = None

    def __init__(
        self, cluster: Cluster | None = None, channels: list[Channel] | None = None, lifelines: Lifelines | None = None
    ) -> None:
        self.index = 0 if cluster is None else cluster.index
        self.addresses = () if cluster is None else cluster.addresses
        self.count = max(1, len(self.addresses))
        self._channels = channels or []
        self._lifelines = lifelines
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    @property
    def is_chief(self) -> bool:
        """True for the process that writes, prints and decides."""
        return self.index == 0

    def broadcast(self, about: str, value: Any) -> Any:
        """Return the chief's value, any JSON value, on all workers."""
        return value if self.count == 1 else self._spread(Message(about=about, value=value)).value

    def exchange(self, about: str, value: Any) -> list[Any]:
        """Return the values of all workers, in worker order, on all workers."""
        if self.count == 1:
            return [value]
        gathered = self._collect(Message(about=about, value=value))
        values: list[Any] = self._spread(Message(about=about, value=[message.value for message in gathered])).value
        return values

    def gather_arrays(self, about: str, arrays: Arrays) -> list[Arrays]:
        """Return the arrays of all workers, in worker order, on the chief; an empty list on the others."""
        if self.count == 1:
            return [arrays]
        return [message.arrays for message in self._collect(Message(about=about, arrays=arrays))]

    def broadcast_arrays(self, about: str, arrays: Arrays) -> Arrays:
        """Return the chief's arrays on all workers."""
        return arrays if self.count == 1 else self._spread(Message(about=about, arrays=arrays)).arrays

    def require_same(self, values: Mapping[str, Any]) -> None:
        """Check that all workers were given the same values.

        Raises:
            ParamsError: a worker was given another value.
        """
        chief, *others = self.exchange("the start", dict(values))
        for index, other in enumerate(others, start=1):
            for name in sorted(chief.keys() | other.keys()):
                if chief.get(name) != other.get(name):
                    raise ParamsError(
                        f"{printable(name)} is {other.get(name)!r} for worker {index}, but {chief.get(name)!r} for the "
                        "chief. Start all workers with the same command, code and data."
                    )

    def folder(self, given: Path | None) -> Path:
        """Return the folder for callbacks: the run folder, or a temporary folder on workers without one."""
        if given is not None or self.is_chief:
            return given or Path()
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="aip-worker-")
            if self._lifelines is not None:
                self._lifelines.before_exit(self._scratch.cleanup)
        return Path(self._scratch.name)

    def _collect(self, message: Message) -> list[Message]:
        if not self.is_chief:
            self._on(self._channels[0], lambda channel: channel.send(message))
            return []
        return [message, *(self._receive(channel, message.about) for channel in self._channels)]

    def _spread(self, message: Message) -> Message:
        if not self.is_chief:
            return self._receive(self._channels[0], message.about)
        for channel in self._channels:
            self._on(channel, lambda channel: channel.send(message))
        return message

    def _receive(self, channel: Channel, about: str) -> Message:
        message: Message = self._on(channel, lambda channel: channel.receive())
        if message.about != about:
            raise TrainingError(
                f"Two workers are at different points of the run (one at {message.about!r}, one at {about!r}). "
                "Start all workers with the same code, parameters and data."
            )
        return message

    def _on(self, channel: Channel, action: Callable[[Channel], Any]) -> Any:
        try:
            return action(channel)
        except (OSError, EOFError) as error:
            self._wait_for_the_reason()
            raise TrainingError(f"The connection to another worker failed ({error}). Resume the run.") from error

    def _wait_for_the_reason(self) -> None:
        """Give the lifelines time to end this process with a message that names the missing worker."""
        if self._lifelines is not None:
            time.sleep(PATIENCE)

    def __enter__(self) -> ProcessGroup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lifelines is not None:
            if error is None:
                self.exchange("the end", None)
                self._lifelines.leave()
            else:
                self._fail(error)
        for channel in self._channels:
            channel.close()
        if self._scratch is not None:
            self._scratch.cleanup()

    def _fail(self, error: BaseException) -> None:
        assert self._lifelines is not None
        if type(error).__module__.startswith("tensorflow"):
            # Most likely a collective operation that lost a worker.
            self._wait_for_the_reason()
        self._lifelines.fail(describe(error))
        if hasattr(signal, "alarm") and threading.current_thread() is threading.main_thread():
            # Nothing at process exit, such as TensorFlow's own shutdown, may wait long for the other workers.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(EXIT_SECONDS)


def describe(error: BaseException) -> str:
    """Describe an error in one sentence."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return " ".join(str(error).split()) or type(error).__name__ if isinstance(error, AipError) else sentence(error)
