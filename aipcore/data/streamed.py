"""A dataset that reads a stream, from the beginning or from a saved position."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import islice, tee
from typing import Any

import numpy as np
import numpy.typing as npt

from aipcore.data.adapters.elements import Convert
from aipcore.data.adapters.samples import stack
from aipcore.data.batching import Layout
from aipcore.data.dataset import Batch, Dataset, MemoryDataset
from aipcore.data.parallel import Choice, ParallelFunction, joined
from aipcore.data.processing import Processors, SkippedSamples
from aipcore.data.processor import Mode
from aipcore.data.sample import Sample, Specs
from aipcore.data.sampler import Indices, Visits
from aipcore.data.stream import Source
from aipcore.data.stream_batches import (
    Stacking,
    StreamProcessing,
    check_parts,
    in_slots,
    no_length,
    processed,
    share_of,
    unequal_parts,
    with_ragged,
)
from aipcore.data.stream_positions import Position, Positions, as_arrays, resumption, same_content, saved_position
from aipcore.data.stream_reader import Conversion, Cut, Reader, Rows, counted, first_elements, samples_of
from aipcore.data.worker_pool import WorkerPool
from aipcore.errors import DataError
from aipcore.params.names import count

PROBED = 32
"""Samples read to determine shapes and dtypes."""

NOTED_SECONDS = 1.0
"""Duration from which on reading up to a saved position is reported."""


class StreamDataset(Dataset):
    """A dataset of the consecutive samples of an endless iteration over a source, pass after pass.

    Requests must ask for ascending indices. A request for an earlier index begins at the last saved position before
    it, or at the beginning. Random processors are seeded by the index, which counts on over all passes.

    The batches of a batched source are used as they are: batch `n` has the indices from `n * batch_size` on, and a
    batch with fewer samples leaves the last indices out.

    Args:
        source: the source.
        processors: all processors.
        finished: completes a dataset in memory by the author's specs and padding.
        convert: the author's conversion of an element, or None.
        workers: the worker pool, or None.
        skipped: counts the samples that cannot be used; None: an unusable sample is an error.
        window: the number of elements that are put into a random order together; at most 1: none.
        mode: the purpose of the data. Outside training, a batch of the source may be divided among several batches, and
            samples are counted exactly.
        process: the index of this process and the number of processes, if each reads samples of its own. The indices
            then count these.

    Attributes:
        batch_size: the number of samples in the batches of the source, or None if they are not used.
        origin: the name of the data in errors.
        raw: the first samples, unprocessed.
        shuffled: True if the elements of each pass come in a new random order.
        resumable: True if reading can continue at a position without reading what lies before.
    """

    def __init__(
        self,
        source: Source,
        processors: Processors,
        finished: Callable[[MemoryDataset], MemoryDataset],
        *,
        convert: Convert | None = None,
        workers: WorkerPool | None = None,
        skipped: SkippedSamples | None = None,
        window: int = 0,
        mode: Mode = Mode.TRAINING,
        process: tuple[int, int] = (0, 1),
    ) -> None:
        # The elements that are shuffled or converted are single samples.
        source = source.single() if window > 1 or convert is not None else source
        self.source = source
        self.origin = processors.origin
        self.window = window
        self._index, self.processes = process
        self._processors, self._skipped, self._mode = processors, skipped, mode
        self._conversion = Conversion(
            source=source, processors=processors, convert=convert, skipped=skipped,
            targets=mode is not Mode.PREDICTION, shared=mode is Mode.TRAINING and not processors.processes,
        )  # fmt: skip
        self._recut = mode is not Mode.TRAINING
        self._whole = self._recut
        self._unchecked = self._recut and source.declared
        self.shuffled = False
        self._reader: Reader | None = None
        # Samples and elements of a pass, once they are counted.
        self._count: tuple[int, int] | None = None
        self._notes: list[str] = []
        self._restored = False
        part = [*processors.deterministic, *processors.random]
        with closing(source.elements()) as elements:
            has_state = elements.state() is not None
            again = None if has_state or source.exact or self._recut else next(elements)
        raw, first = first_elements(self._conversion, PROBED)
        self._positions = Positions(Position(sample=0, element=0, state=None))
        self.batch_size: int | None = None
        if source.batched and not processors.generating:
            self.batch_size = max(map(len, raw))
        # Evaluation always begins at the beginning.
        self.resumable, self._reason = resumption(source) if has_state and not self._recut else (False, "")
        if again is not None and not same_content(first, again):
            self._reason = ", not exactly: its elements differ each time they are read"
        samples = [each for each in samples_of(raw) if each is not None][:PROBED]
        made = processed(samples, processors, part, skips=skipped is not None)
        self._first = with_ragged(finished(stack(made, processors.origin)), raw, part)
        bare = (self._first.inputs.bare, self._first.targets.bare, self._first.weights.bare)
        self.layout = Layout(self._first.specs(), bare, self._first.padding, processors.origin)
        self._process = StreamProcessing(
            processors=processors, part=part, layout=self.layout, skips=skipped is not None
        )
        self._stacking = Stacking(layout=self.layout, skipped=skipped)
        self.raw = samples
        stacked = not part and all(isinstance(each, MemoryDataset) for each in raw)
        self._direct = stacked and (self.nominal or self.layout.stacked)
        self._function = ParallelFunction(self._process, workers if part else None)

    @property
    def nominal(self) -> bool:
        """True if the batches of the source are used as they are."""
        return self.batch_size is not None and not self._recut

    @property
    def uniform(self) -> bool:
        """See `Dataset`."""
        return self.layout.stacked

    @property
    def separable(self) -> bool:
        """See `Dataset`. A batch of the source, or one with skipped samples, may be smaller than it should be."""
        return self._skipped is None and not self.nominal

    @property
    def length(self) -> int | None:
        """The number of samples of a pass, if it is known without reading them."""
        if self.processes > 1:
            return None
        counts = None if self._count is None else self._count[0]
        if self.source.length is None or self._processors.generating:
            return counts
        if not self.source.batched:
            return self.source.length
        return self.source.length * (self.batch_size or 0) if self.nominal else counts

    def length_of_a_pass(self, most: int) -> int:
        """Return the number of samples of a pass, at most `most`; they are read if it is unknown."""
        if self.length is not None:
            return min(most, self.length)
        total = 0
        for number, element in enumerate(self.source.one_pass()):
            total += self._conversion.size(element, number)
            if total >= most:
                return most
        return total

    def __len__(self) -> int:
        if self.processes > 1:
            raise no_length(self.origin, self.processes)
        if self.length is None:
            training = self._mode is Mode.TRAINING
            hint = "--trainer.samples_per_epoch" if training else "--val.limit, or --lav.limit for a list of LAV"
            samples, elements = counted(self._conversion, hint)
            self._count = (elements * self.batch_size if self.nominal and self.batch_size else samples), elements
        assert self.length is not None
        return self.length

    def sample(self, index: int, epoch: int = 0) -> Sample:
        """See `Dataset`; only the first samples, which are in memory.

        Raises:
            DataError: the sample is not one of them.
        """
        if not index < len(self._first):
            raise DataError(f"{self.origin} is a stream, so sample {index} cannot be read by its index.")
        return self._first.sample(index)

    def batch(self, indices: Indices, epochs: Indices | None = None) -> Batch:
        """See `Dataset`; the indices must ascend."""
        with closing(self.batches([Visits(indices=indices, epochs=np.zeros_like(indices))])) as batches:
            return next(batches)

    def batches(self, requests: Iterable[Visits]) -> Generator[Batch, None, None]:
        """See `Dataset`; the indices must ascend."""
        if self._direct:
            for visits in requests:
                yield self._stacked(self._read(visits.indices), visits.indices)
            return
        choice = self.choice()
        # Padded batches are made as a whole.
        size = choice.task if choice.workers and self.uniform else sys.maxsize
        requests, again = tee(requests)
        with closing(self._function.calls(self._tasks(again, size))) as answers:
            for visits in requests:
                sizes = [len(part.indices) for part in visits.cut(size)] or [0]
                batch = joined(list(islice(answers, len(sizes))), sizes)
                if self._skipped is not None:
                    self._skipped.add(batch.errors)
                yield batch

    def choice(self) -> Choice:
        """Return the choice between workers and this process, measured on the first call.

        Raises:
            DataError: a sample cannot be made, or workers are required but not available.
        """
        if self._function.choice is None:
            process, raw = self._process, self.raw
            return self._function.measured(
                lambda indices: process([raw[n] for n in indices], np.asarray(indices)),
                len(raw),
                self.length or sys.maxsize,
            )
        return self._function.choice

    def specs(self) -> Specs:
        """See `Dataset`."""
        return self.layout.specs

    def known(self) -> MemoryDataset:
        """See `Dataset`."""
        return self._first

    def lengths(self) -> npt.NDArray[np.int64]:
        """See `Dataset`.

        Raises:
            DataError: always, since a stream cannot be sorted.
        """
        raise DataError(
            f"{self.origin} is a stream, which cannot be sorted by length. Leave --train.bucket_window out."
        )

    def state(self, sample: int) -> dict[str, Any]:
        """Return what a resumed run needs to continue with the sample of an index: JSON values and arrays."""
        found = self._positions.before(sample // self.processes)
        self._positions.forget(found)
        state = {"sample": found.sample, "element": found.element, "state": as_arrays(found.state)}
        return state | self._identity()

    def _identity(self) -> dict[str, Any]:
        return {"kind": self.source.kind, "window": self.window}

    def restore(self, state: dict[str, Any]) -> None:
        """Let reading begin at the position of a saved state.

        Raises:
            DataError, ValueError, KeyError, TypeError: see `saved_position`.
        """
        position = saved_position(state, self.origin, self._identity(), self._index, self.processes)
        self._close()
        self._restored = True
        self._positions = Positions(Position(sample=0, element=0, state=None))
        # A source without a state is read again.
        if position.sample and self.resumable:
            self._positions.add(position)

    def describe(self) -> str:
        """Return the kind of the source, its order, and the way a run is resumed."""
        parts = f", part {self._index + 1} of {self.processes}" if self.processes > 1 else ""
        order = "in random order" if self.shuffled else "in its own order"
        if self.window > 1:
            order = f"shuffled in groups of {count(self.window, 'element')}"
        batches = f" and batches of {self.batch_size}" if self.nominal else ""
        resumed = "from its saved state" if self.resumable else "by reading again up to the position"
        return f"{self.source.kind}{parts}, {order}{batches}; resumed {resumed}{self._reason}"

    def begin(self, samples: int, batch_size: int, *, shuffle: bool) -> None:
        """Prepare for epochs.

        Args:
            samples: the samples of an epoch. If these are those of a pass, each pass must have as many.
            batch_size: the samples of a batch.
            shuffle: True to read the elements of each pass in a new random order, if the source can.

        Raises:
            DataError: the processes would have parts of different sizes.
        """
        if self.processes > 1:
            check_parts(self.origin, samples, batch_size, self.processes)
            if self.source.batched or self._skipped is not None or not self.uniform:
                raise unequal_parts(self.origin)
        self._whole = samples == self.length
        self.shuffled = shuffle and self.source.shuffle(self._processors.seed)

    def notes(self) -> list[str]:
        """Return sentences about what was skipped to resume since the last call."""
        notes, self._notes = self._notes, []
        return notes

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _read(self, indices: Indices) -> list[Rows]:
        """Return the samples of consecutive indices as parts of elements."""
        if not len(indices):
            return []
        first = int(indices.min())
        if self._reader is None or self._reader.sample > first:
            if self._unchecked and self._reader is not None and not first and self._reader.sample == self.length:
                self._unchecked = False
                self._reader.check_end()
            self._close()
            start = self._positions.before(first)
            cut = Cut(
                length=self._elements(),
                whole=self._whole,
                training=not self._recut,
                window=self.window,
                seed=self._processors.seed,
            )
            self._reader = Reader(
                self._conversion,
                start,
                self._positions if self.resumable else None,
                cut,
                self.batch_size if self.nominal else None,
            )
            begun = time.monotonic()
            self._reader.skip_to(first)
            seconds = time.monotonic() - begun
            if first > start.sample and self._restored and (start.state is None or seconds >= NOTED_SECONDS):
                self._notes.append(
                    f"Skipped {count(first - start.sample, 'sample')} of {self.origin} in {seconds:.1f} s."
                )
            self._restored = False
        self._reader.skip_to(first)
        return self._reader.take(int(indices.max()) + 1 - first)

    def _elements(self) -> int | None:
        """Return the number of elements of a pass, if it is known."""
        if self.source.length is None:
            return None if self._count is None else self._count[1]
        return -(-self.source.length // max(1, self.source.stacked))

    def _tasks(self, requests: Iterable[Visits], size: int) -> Iterator[tuple[Any, ...]]:
        for visits in requests:
            samples = in_slots(self._read(visits.indices), self.batch_size if self.nominal else 0)
            if (own := share_of(visits.indices)) is not None:
                samples = [samples[n] for n in own.tolist()]
            parts = visits.cut(size) or [visits]
            for number, part in enumerate(parts):
                first = number * size if number else 0
                # Random numbers differ between the processes.
                indices = part.indices * self.processes + self._index
                yield samples[first : first + len(part.indices)], indices

    def _stacked(self, parts: list[Rows], indices: Indices) -> Batch:
        """Return rows of stacked arrays as a batch."""
        if not parts:
            return self._stacking.empty()
        size = self.batch_size if self.nominal else None
        batch = joined([self._stacking(rows, size) for rows in parts], [size or len(rows) for rows in parts])
        if size is None and (own := share_of(indices)) is not None:
            sides = [{name: column[own] for name, column in side.items()} for side in batch.sides]
            return Batch(inputs=sides[0], targets=sides[1], weights=sides[2])
        return batch
