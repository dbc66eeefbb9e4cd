"""The workers of a run: processes that share each batch, take the same decisions, and end together.

TensorFlow sums their gradients. Everything else - the seed, what is measured, when to stop, metrics, what checkpoints
hold - goes through the chief, over connections of our own that notice at once when a process is gone.
"""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from aipcore.devices.channel import Arrays, Channel, Message
from aipcore.devices.cluster import Cluster
from aipcore.devices.lifeline import Lifelines
from aipcore.errors import AipError, ParamsError, TrainingError
from aipcore.params.names import printable

FAREWELL = 20
"""Seconds that a process has to end after an error."""

PATIENCE = 10.0
"""Seconds in which a lifeline says who is gone, after anything else has noticed."""


class Workers:
    """This process and its peers; the one of index 0 is the chief.

    All workers call the same methods in the same order. As a context manager it tells the others how this one ends.

    Attributes:
        index: which worker this is.
        addresses: `host:port` of each worker, none for one worker.
        count: how many there are.
        strategy: TensorFlow's, which sums their gradients; None for one worker.
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
        """Whether this one writes, prints and decides."""
        return self.index == 0

    def broadcast(self, about: str, value: Any) -> Any:
        """The chief's value, anything that JSON can say, on all workers."""
        return value if self.count == 1 else self._spread(Message(about=about, value=value)).value

    def exchange(self, about: str, value: Any) -> list[Any]:
        """The values of all workers, in their order, on all workers."""
        if self.count == 1:
            return [value]
        gathered = self._collect(Message(about=about, value=value))
        values: list[Any] = self._spread(Message(about=about, value=[message.value for message in gathered])).value
        return values

    def gather_arrays(self, about: str, arrays: Arrays) -> list[Arrays]:
        """The arrays of all workers, in their order, on the chief; nothing on the others."""
        if self.count == 1:
            return [arrays]
        return [message.arrays for message in self._collect(Message(about=about, arrays=arrays))]

    def broadcast_arrays(self, about: str, arrays: Arrays) -> Arrays:
        """The chief's arrays on all workers."""
        return arrays if self.count == 1 else self._spread(Message(about=about, arrays=arrays)).arrays

    def require_same(self, values: Mapping[str, Any]) -> None:
        """Checks that all workers were given the same.

        Raises:
            ParamsError: one was not; says what differs.
        """
        chief, *others = self.exchange("the start", dict(values))
        for index, other in enumerate(others, start=1):
            for name in sorted(chief.keys() | other.keys()):
                if chief.get(name) != other.get(name):
                    raise ParamsError(
                        f"{printable(name)} is {other.get(name)!r} for worker {index}, but {chief.get(name)!r} for the "
                        "chief: start all workers with the same command, code and data."
                    )

    def folder(self, given: Path | None) -> Path:
        """Where a callback may write: the folder of the run, or on other workers one that is removed at the end."""
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
                f"Two workers are not at the same point (one at {message.about!r}, one at {about!r}): "
                "give all of them the same code, parameters and data."
            )
        return message

    def _on(self, channel: Channel, action: Callable[[Channel], Any]) -> Any:
        try:
            return action(channel)
        except (OSError, EOFError) as error:
            self._wait_for_the_reason()
            raise TrainingError(f"The connection to another worker failed ({error}): resume the run.") from error

    def _wait_for_the_reason(self) -> None:
        """Gives the lifelines, which know who is gone, the time to end this process with a better message."""
        if self._lifelines is not None:
            time.sleep(PATIENCE)

    def __enter__(self) -> Workers:
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
            # Nothing at the end of the process, TensorFlow's own good-bye say, may wait for the others for long.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(FAREWELL)


def describe(error: BaseException) -> str:
    """An error in one sentence."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    text = " ".join(str(error).split())
    return text if isinstance(error, AipError) and text else f"{type(error).__name__}: {text}"
