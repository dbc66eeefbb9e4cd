"""The data loader: blocks of batches, gathered in a background thread while the device computes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from itertools import pairwise
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.batching import Batching
from aipcore.data.dataset import Batch, Columns, Dataset, Padding
from aipcore.data.padding_sizes import Size, fitting_size, pad_to, size_of
from aipcore.data.sampler import SampleOrder, SequentialOrder, Visits
from aipcore.errors import DataError


@attrs.frozen
class _End:
    """Marker after the last block of an epoch."""


class Prefetcher:
    """A thread that makes and converts blocks, and continues with the next epoch during validation.

    Args:
        blocks: returns the blocks of an epoch from a given batch on.
        convert: converts a block.
        epochs: the number of epochs.
        across: True to prefetch across the end of an epoch.
    """

    def __init__(
        self,
        blocks: Callable[[int, int], Iterator[Block]],
        convert: Callable[[Block], Any],
        *,
        epochs: int,
        across: bool = True,
    ) -> None:
        self._blocks = blocks
        self._convert = convert
        self._epochs = epochs
        self._across = across
        self._running: Iterator[Any] | None = None
        self._next = (0, 0)

    def epoch(self, epoch: int, first: int) -> Generator[Any, None, None]:
        """Yield the converted blocks of an epoch from batch `first` on. Stopping early discards prefetched blocks."""
        if self._running is None or self._next != (epoch, first):
            self.close()
            self._running = prefetch(self._following(epoch, first), self._converted)
        complete = False
        try:
            for item in self._running:
                complete = isinstance(item, _End)
                if complete:
                    return
                yield item
        finally:
            self._next = (epoch + 1, 0)
            if not (complete and self._across):
                self.close()

    def close(self) -> None:
        """Stop the thread and discard its blocks."""
        running, self._running = self._running, None
        if running is not None:
            running.close()  # type: ignore[attr-defined]

    def _following(self, epoch: int, first: int) -> Generator[Any, None, None]:
        for number in range(epoch, self._epochs if self._across else epoch + 1):
            blocks: Any = self._blocks(number, first if number == epoch else 0)
            with closing(blocks):
                yield from blocks
            yield _End()

    def _converted(self, item: Any) -> Any:
        return item if isinstance(item, _End) else self._convert(item)


@attrs.frozen(kw_only=True, eq=False)
class Block:
    """Consecutive batches of equal size, or the share of each batch that one of several processes computes.

    Attributes:
        first: index of the first batch within the epoch.
        steps: number of valid batches; further batches at the end of the arrays are padding and must not be run.
        batch_size: samples in each batch, over all processes.
        inputs: per name, an array of shape [steps or more, batch_size (or this process's share of it), ...].
        targets: likewise.
        weights: likewise, in float32; empty if the samples are not weighted.
        meta: the `Sample.meta` of the samples in valid batches, in order, or None if the data has none.
        fixed: True if the block has a shape that many blocks have: its batches are full, and samples of varying size
            are padded to one of a few sizes.
    """

    first: int
    steps: int
    batch_size: int
    inputs: Columns
    targets: Columns
    weights: Columns = attrs.field(factory=dict)
    meta: Sequence[Any] | None = None
    fixed: bool = False

    @property
    def sides(self) -> tuple[Columns, Columns, Columns]:
        """The columns of the inputs, the targets and the weights, as in `SIDES`."""
        return self.inputs, self.targets, self.weights

    def padded(self, dataset: Dataset, size: Size, padding: Padding) -> Block:
        """Return the block with batches of samples of varying size padded to a size."""
        inputs, targets, weights = pad_to(self.sides, dataset.specs(), size, padding)
        return attrs.evolve(self, inputs=inputs, targets=targets, weights=weights)


@attrs.frozen
class _Span:
    """Consecutive batches of equal size: first batch, number of batches, batch size."""

    first: int
    steps: int
    batch_size: int


Share = Callable[[int], npt.NDArray[np.int64]]
"""Maps a batch size to the positions of this process's samples in the batch."""


class DataLoader:
    """A loader that divides epochs of a dataset into blocks.

    Attributes:
        share: this process's share of each batch; None: the whole batch. Only the share is read and processed, except
            where `Dataset.separable` is False. Samples of varying size are then padded to the largest of the share;
            see `padded_alike`.
    """

    def __init__(
        self, dataset: Dataset, order: SampleOrder | SequentialOrder, batching: Batching, share: Share | None = None
    ) -> None:
        self.dataset = dataset
        self.order = order
        self.batching = batching
        self.share = share

    @cached_property
    def padding(self) -> Padding:
        """The padding values of the dataset."""
        return self.dataset.known().padding

    @property
    def in_memory(self) -> bool:
        """True if all samples are in memory as they are trained on, so that a batch costs little to make."""
        return self.dataset.known() is self.dataset

    @property
    def pads_shares(self) -> bool:
        """True if blocks for several processes are padded differently in each of them."""
        return self.dataset.separable and not self.dataset.uniform

    def padded_alike(self, block: Block, exchange: Callable[[str, Any], list[Any]]) -> Block:
        """Return a block padded to the largest sample of all processes, which must all call this for each block.

        Args:
            block: the block of this process.
            exchange: see `ProcessGroup.exchange`.
        """
        if not self.pads_shares:
            return block
        own = size_of(block.sides, self.dataset.specs())
        size = tuple(map(max, zip(*exchange("the size of a batch", own), strict=True)))
        return block if size == own else block.padded(self.dataset, size, self.padding)

    def blocks(
        self,
        epoch: int,
        *,
        chunk: int,
        first: int = 0,
        room: int = 0,
        ends: Collection[int] = (),
        sizes: Sequence[Size] = (),
    ) -> Generator[Block, None, None]:
        """Yield the blocks of an epoch, from batch `first` on.

        A skipped sample makes its batch smaller, and that batch comes in its own block. Closing the generator discards
        all prefetched data.

        Args:
            epoch: zero-based; starts at position `epoch * (samples + dropped)` of the sample order.
            chunk: the most batches in a block. Samples of different shapes come one batch per block.
            first: the first batch of the epoch to yield.
            room: the number of batches that blocks of full batches are padded to with zeros, so that all have one
                shape; 0: no padding.
            ends: batches of the epoch, counted from 1, after which a block must end.
            sizes: the sizes that full batches of samples of varying size are padded to, in ascending order. A batch
                that is larger than all of them is only padded to its largest sample.

        Raises:
            DataError: no sample of the epoch could be used.
        """
        if not self.dataset.uniform:
            chunk, room = 1, min(room, 1)
        spans = list(self._spans(first, chunk, sorted(set(ends))))
        empty = True
        with closing(self.dataset.batches(self._visits(epoch, span) for span in spans)) as made:
            for span, part in zip(spans, made, strict=True):
                full = span.batch_size == self.batching.batch_size
                for block in self._cut(span, part, room if full else 0):
                    empty = False
                    yield self._fixed(block, sizes)
        if empty and spans and first == 0:
            raise DataError("No sample of the epoch could be used. Set --data.on_error raise to see the error.")

    def spread_blocks(self, most: int) -> Generator[Block, None, None]:
        """Yield some full batches of the first epoch, one in each block.

        They are spread over the lengths of its batches, with the shortest and the longest one, if lengths are known
        without making samples. Otherwise, they are spread over the epoch, or the first ones of a stream.

        Args:
            most: the maximum number of batches.
        """
        full, order = self.batching.full_steps, self.order
        last = min(most, full) if isinstance(order, SequentialOrder) else full
        steps = np.unique(np.linspace(0, last - 1, min(most, full)).astype(int))
        if isinstance(order, SampleOrder) and (order.buckets is not None or self.in_memory):
            lengths = self.dataset.lengths() if order.buckets is None else order.buckets.lengths
            batches = order.indices(0, full * self.batching.batch_size).reshape(full, -1)
            steps = np.sort(np.argsort(lengths[batches].max(axis=1), kind="stable")[steps])
        spans = [_Span(step, 1, self.batching.batch_size) for step in steps.tolist()]
        with closing(self.dataset.batches(self._visits(0, span) for span in spans)) as made:
            for span, part in zip(spans, made, strict=True):
                yield from self._cut(span, part, 0)

    def _fixed(self, block: Block, sizes: Sequence[Size]) -> Block:
        """Return the block, padded to the first size that is large enough, if it has a full batch."""
        if block.batch_size != self.batching.batch_size:
            return block
        if not self.dataset.uniform:
            size = fitting_size(sizes, size_of(block.sides, self.dataset.specs()))
            if size is None:
                return block
            block = block.padded(self.dataset, size, self.padding)
        return attrs.evolve(block, fixed=True)

    def _spans(self, first: int, chunk: int, ends: Sequence[int]) -> Iterator[_Span]:
        batching = self.batching
        within = (end for end in ends if first < end < batching.full_steps)
        for start, end in pairwise([first, *within, batching.full_steps]):
            for step in range(start, end, chunk):
                yield _Span(step, min(chunk, end - step), batching.batch_size)
        if max(first, batching.full_steps) < batching.steps:
            yield _Span(batching.full_steps, 1, batching.samples - batching.full_steps * batching.batch_size)

    def _visits(self, epoch: int, span: _Span) -> Visits:
        start = self.batching.start(epoch, span.first)
        visits = self.order.visits(start, start + span.steps * span.batch_size)
        if self.share is None:
            return visits
        if isinstance(self.order, SequentialOrder) and self.order.processes > 1:
            # All samples are this process's own.
            if not self.dataset.separable or len(self.share(span.batch_size)) * self.order.processes != span.batch_size:
                raise DataError(
                    f"The samples of a sharded stream cannot be divided equally: a batch has {span.batch_size}. Give a "
                    "multiple of the number of all devices as --train.batch_size, and samples of one shape."
                )
            return visits
        if not self.dataset.separable:
            return visits
        wanted = _in_each(self.share(span.batch_size), span.steps, span.batch_size)
        return Visits(indices=visits.indices[wanted], epochs=visits.epochs[wanted])

    def _cut(self, span: _Span, samples: Batch, room: int) -> Iterator[Block]:
        if self.share is not None and self.dataset.separable:
            yield _block(samples, slice(None), span.first, span.steps, span.batch_size, room)
            return
        for block in _cut(span, samples, room):
            yield block if self.share is None else _shared(block, self.share(block.batch_size))


def _in_each(positions: npt.NDArray[np.int64], steps: int, batch_size: int) -> npt.NDArray[np.int64]:
    """Return the positions in each of several batches, counted from the start of the first batch."""
    return (np.arange(steps)[:, None] * batch_size + positions).ravel()


def _shared(block: Block, positions: npt.NDArray[np.int64]) -> Block:
    inputs, targets, weights = (
        {name: column[:, positions] for name, column in columns.items()}
        for columns in (block.inputs, block.targets, block.weights)
    )
    meta = block.meta
    if meta is not None:
        meta = [meta[index] for index in _in_each(positions, block.steps, block.batch_size).tolist()]
    return attrs.evolve(block, inputs=inputs, targets=targets, weights=weights, meta=meta)


def _cut(span: _Span, samples: Batch, room: int) -> Iterator[Block]:
    """Yield the blocks of a span: one block, or more if some batches miss samples."""
    if samples.kept is None:
        yield _block(samples, slice(None), span.first, span.steps, span.batch_size, room)
        return
    counts = samples.kept.reshape(span.steps, span.batch_size).sum(axis=1)
    starts = np.concatenate([[0], np.cumsum(counts)])
    step = 0
    while step < span.steps:
        count, end = int(counts[step]), step + 1
        while count == span.batch_size and end < span.steps and counts[end] == count:
            end += 1
        if count:
            part = slice(int(starts[step]), int(starts[end]))
            whole = room if count == span.batch_size else 0
            yield _block(samples, part, span.first + step, end - step, count, whole)
        step = end


def _block(samples: Batch, part: slice, first: int, steps: int, batch_size: int, room: int) -> Block:
    inputs, targets, weights = (
        {name: _fold(column[part], steps, max(room, steps)) for name, column in columns.items()}
        for columns in (samples.inputs, samples.targets, samples.weights)
    )
    meta = None if samples.meta is None else samples.meta[part]
    return Block(
        first=first, steps=steps, batch_size=batch_size, inputs=inputs, targets=targets, weights=weights, meta=meta
    )


def _fold(column: npt.NDArray[Any], steps: int, room: int) -> npt.NDArray[Any]:
    folded = column.reshape(steps, len(column) // steps, *column.shape[1:])
    if room == steps:
        return folded
    return np.concatenate([folded, np.zeros((room - steps, *folded.shape[1:]), folded.dtype)])


def prefetch(source: Iterator[Any], convert: Callable[[Any], Any], *, depth: int = 2) -> Generator[Any, None, None]:
    """Yield `convert(item)` for each item of `source`, computed up to `depth` items ahead in a thread.

    The thread ends with the iteration, also if the consumer stops early or raises. An error in `source` or `convert`
    is raised in the consumer in place of the item.
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
        finally:
            if hasattr(source, "close"):
                source.close()

    thread = threading.Thread(target=work, name="aip-data-loader", daemon=True)
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
