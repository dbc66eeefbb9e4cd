"""The feed of the compiled loops: blocks of batches, gathered in a background thread while the device computes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.dataset import Columns, Dataset
from aipcore.data.order import SampleOrder


@attrs.frozen(kw_only=True, eq=False)
class Block:
    """Some consecutive batches of equal size.

    Attributes:
        first: index of the first batch within the epoch.
        steps: number of batches that count; further ones at the end of the arrays are padding and not to be run.
        batch_size: samples in each batch.
        inputs: per name, an array of shape [steps or more, batch_size, ...].
        targets: likewise.
    """

    first: int
    steps: int
    batch_size: int
    inputs: Columns
    targets: Columns


@attrs.frozen(kw_only=True)
class Batching:
    """How an epoch is cut into batches: `samples` in all, `batch_size` in each but a possibly smaller last one."""

    samples: int
    batch_size: int

    @property
    def steps(self) -> int:
        """Batches in an epoch, the partial one included."""
        return -(-self.samples // self.batch_size)

    @property
    def full_steps(self) -> int:
        """Batches in an epoch that hold `batch_size` samples."""
        return self.samples // self.batch_size


class Feed:
    """Cuts epochs of a data set into blocks."""

    def __init__(self, dataset: Dataset, order: SampleOrder, batching: Batching) -> None:
        self.dataset = dataset
        self.order = order
        self.batching = batching

    def blocks(self, epoch: int, *, chunk: int, first: int = 0, pad: bool = False) -> Iterator[Block]:
        """Yields the blocks of an epoch, from batch `first` on.

        Args:
            epoch: zero-based; it starts at position `epoch * samples` of the sample order.
            chunk: most batches in a block. Samples whose shapes differ come one batch a block.
            first: the batch of the epoch to start at.
            pad: whether the last block of full batches is filled up to `chunk` batches (with zeros, not to be run), so
                that all such blocks have one shape.
        """
        chunk = chunk if self.dataset.uniform else 1
        step = first
        while step < self.batching.full_steps:
            steps = min(chunk, self.batching.full_steps - step)
            yield self._block(epoch, step, steps, self.batching.batch_size, chunk if pad else steps)
            step += steps
        if step < self.batching.steps:
            yield self._block(epoch, step, 1, self.batching.samples - step * self.batching.batch_size, 1)

    def _block(self, epoch: int, step: int, steps: int, batch_size: int, room: int) -> Block:
        start = epoch * self.batching.samples + step * self.batching.batch_size
        indices = self.order.indices(start, start + steps * batch_size)
        inputs, targets = self.dataset.take(indices)
        return Block(
            first=step,
            steps=steps,
            batch_size=batch_size,
            inputs={name: _fold(column, steps, batch_size, room) for name, column in inputs.items()},
            targets={name: _fold(column, steps, batch_size, room) for name, column in targets.items()},
        )


def _fold(column: npt.NDArray[Any], steps: int, batch_size: int, room: int) -> npt.NDArray[Any]:
    folded = column.reshape(steps, batch_size, *column.shape[1:])
    if room == steps:
        return folded
    return np.concatenate([folded, np.zeros((room - steps, *folded.shape[1:]), folded.dtype)])


def prefetch(source: Iterator[Any], convert: Callable[[Any], Any], *, depth: int = 2) -> Iterator[Any]:
    """Yields `convert(item)` for each item of `source`, computed up to `depth` items ahead in a thread.

    The thread ends with the iteration, also when the consumer stops early or raises. An error in `source` or `convert`
    is raised at the consumer, in place of the item.
    """
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(message: tuple[str, Any]) -> bool:
        while not stopped.is_set():
            try:
                ready.put(message, timeout=0.05)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in source:
                if not put(("item", convert(item))):
                    return
        except BaseException as error:
            put(("error", error))
        else:
            put(("end", None))

    thread = threading.Thread(target=work, name="aip-feed", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stopped.set()
        thread.join()
