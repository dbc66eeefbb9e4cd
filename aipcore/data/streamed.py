"""A dataset that reads a stream, from the beginning or from a saved position."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import islice, repeat, tee
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.adapters.elements import Convert, batch_size, no_samples
from aipcore.data.adapters.samples import stack
from aipcore.data.batching import Layout, collect
from aipcore.data.dataset import Batch, Dataset, MemoryDataset
from aipcore.data.parallel import Choice, ParallelFunction, joined
from aipcore.data.processing import Part, Processors, SampleError, SkippedSamples
from aipcore.data.sample import SIDES, Sample, Specs
from aipcore.data.sampler import Indices, Visits
from aipcore.data.stream import Source
from aipcore.data.stream_reader import (
    Conversion,
    Position,
    Positions,
    Reader,
    Rows,
    as_arrays,
    as_bytes,
    counted,
    repeats,
    samples_of,
)
from aipcore.data.worker_pool import WorkerPool
from aipcore.errors import DataError
from aipcore.params.names import count

PROBED = 32
"""Samples read to determine shapes and dtypes."""


@attrs.frozen(kw_only=True, eq=False)
class StreamProcessing:
    """The processing of consecutive samples, here or in a worker process."""

    processors: Processors
    part: Part
    layout: Layout
    skips: bool

    def __call__(self, samples: list[Sample | None], indices: Indices) -> Batch:
        """Return the processed samples as a batch, in which missing samples are not kept."""

        def make(number: int) -> Sample | None:
            sample, index = samples[number], int(indices[number])
            if sample is None:
                return None
            return self.processors.run(self.part, sample, index=index, visit=0, source_index=index)

        return collect(self.layout, indices.tolist(), make, skips=self.skips)


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
        recut: if True, a batch of the source may be divided among several batches, and samples are counted exactly.

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
        recut: bool = False,
    ) -> None:
        self.source = source
        self.origin = processors.origin
        self.window = window
        self._processors, self._skipped = processors, skipped
        self._rows = Conversion(source=source, processors=processors, convert=convert, skipped=skipped)
        self._recut = recut
        self.shuffled = False
        self._reader: Reader | None = None
        self._count: int | None = None
        self._notes: list[str] = []
        part = [*processors.deterministic, *processors.random]
        raw, state = self._probed()
        self._positions = Positions(Position(sample=0, element=0, state=None))
        self.batch_size: int | None = None
        if source.batched and not processors.generating:
            self.batch_size = max(map(len, raw))
        # Evaluation always begins at the beginning.
        self.resumable = not recut and state is not None and (source.exact or repeats(source))
        samples = list(samples_of(raw))[:PROBED]
        made = [processors.run(part, each, index=n, visit=0, source_index=n) for n, each in enumerate(samples)]
        self._first = finished(stack(made, processors.origin))
        bare = (self._first.inputs.bare, self._first.targets.bare, self._first.weights.bare)
        self.layout = Layout(self._first.specs(), bare, self._first.padding, processors.origin)
        self._process = StreamProcessing(
            processors=processors, part=part, layout=self.layout, skips=skipped is not None
        )
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
        return self.uniform and self._skipped is None and not self.nominal

    @property
    def length(self) -> int | None:
        """The number of samples of a pass, if it is known without reading them."""
        if self.source.length is None or self._processors.generating:
            return self._count
        if not self.source.batched:
            return self.source.length
        return self.source.length * (self.batch_size or 0) if self.nominal else self._count

    def length_of_a_pass(self, most: int) -> int:
        """Return the number of samples of a pass, at most `most`; they are read if it is unknown."""
        if self.length is not None:
            return min(most, self.length)
        total = 0
        for number, element in enumerate(self.source.one_pass()):
            total += self._samples_in(element, number)
            if total >= most:
                return most
        return total

    def __len__(self) -> int:
        if self.length is None:
            self._count = counted(self.source, self._samples_in)
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
        found = self._positions.before(sample)
        return {"sample": found.sample, "element": found.element, "state": as_arrays(found.state)}

    def restore(self, state: dict[str, Any]) -> None:
        """Let reading begin at the position of a saved state.

        Raises:
            ValueError, KeyError, TypeError: it is not a state.
        """
        self._close()
        position = Position(sample=int(state["sample"]), element=int(state["element"]), state=as_bytes(state["state"]))
        if position.sample:
            self._positions.add(position)
        else:
            self._positions = Positions(position)

    def describe(self) -> str:
        """Return the kind of the source, its order, and the way a run is resumed."""
        order = "in random order" if self.shuffled else "in its own order"
        if self.window > 1:
            order = f"shuffled in groups of {count(self.window, 'element')}"
        batches = f" and batches of {self.batch_size}" if self.nominal else ""
        resumed = "from its saved state" if self.resumable else "by reading again up to the position"
        return f"{self.source.kind}, {order}{batches}; resumed {resumed}"

    def shuffle(self) -> None:
        """Read the elements of each pass in a new random order, if the source can."""
        self.shuffled = self.source.shuffle(self._processors.seed)

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
        first = int(indices[0])
        if self._reader is None or self._reader.sample > first:
            self._close()
            start = self._positions.before(first)
            self._reader = Reader(
                self.source,
                self._rows,
                start,
                self._positions if self.resumable else None,
                batch_size=self.batch_size if self.nominal else None,
                window=self.window,
                length=self.source.length if self.source.length or self._processors.generating else self._count,
                seed=self._processors.seed,
            )
            begun = time.monotonic()
            self._reader.skip_to(first)
            if first > start.sample:
                seconds = time.monotonic() - begun
                self._notes.append(
                    f"Skipped {count(first - start.sample, 'sample')} of {self.origin} in {seconds:.1f} s."
                )
        self._reader.skip_to(first)
        return self._reader.take(int(indices[-1]) + 1 - first)

    def _tasks(self, requests: Iterable[Visits], size: int) -> Iterator[tuple[Any, ...]]:
        for visits in requests:
            samples = self._in_slots(self._read(visits.indices))
            if len(visits.indices) and len(samples) != len(visits.indices):
                # This process's share.
                samples = [samples[n] for n in (visits.indices - visits.indices[0]).tolist()]
            parts = visits.cut(size) or [visits]
            for number, part in enumerate(parts):
                first = number * size if number else 0
                yield samples[first : first + len(part.indices)], part.indices

    def _in_slots(self, parts: list[Rows]) -> list[Sample | None]:
        """Return one entry for each index; None where a batch of the source has no sample."""
        samples: list[Sample | None] = []
        for rows in parts:
            samples += samples_of([rows])
            if self.nominal and self.batch_size is not None:
                samples += [None] * (self.batch_size - len(rows))
        return samples

    def _stacked(self, parts: list[Rows], indices: Indices) -> Batch:
        """Return rows of stacked arrays as a batch."""
        if not parts:
            return self._first.batch(np.arange(0))
        size = self.batch_size if self.nominal else None
        batch = joined([self._as_batch(rows, size) for rows in parts], [size or len(rows) for rows in parts])
        if size is None and len(indices) < indices[-1] + 1 - indices[0]:
            # This process's share.
            sides = [{name: column[indices - indices[0]] for name, column in side.items()} for side in batch.sides]
            return Batch(inputs=sides[0], targets=sides[1], weights=sides[2])
        return batch

    def _as_batch(self, rows: Rows, size: int | None) -> Batch:
        inputs, targets, weights = map(self._columns, SIDES, self.layout.sides, repeat(rows))
        kept = None if size is None or len(rows) == size else np.arange(size) < len(rows)
        return Batch(inputs=inputs, targets=targets, weights=weights, kept=kept)

    def _columns(self, part: str, layout: Any, rows: Rows) -> dict[str, Any]:
        assert isinstance(rows, MemoryDataset)
        given = getattr(rows, part).columns
        columns: dict[str, Any] | None = layout.matching(given, len(rows))
        if columns is None:
            found = ", ".join(f"{name or 'one array'} {each.dtype}{each.shape[1:]}" for name, each in given.items())
            wanted = ", ".join(
                f"{name or 'one array'} {spec.dtype}{spec.shape}"
                for name, spec in self.specs()[SIDES.index(part)].items()
            )
            raise SampleError(
                f"A batch of {self.origin} has the {part} {found or 'none'}, but the first batches have "
                f"{wanted or 'none'}. Make the batches alike, or declare axes that vary in sample_specs()."
            )
        return columns

    def _samples_in(self, element: Any, number: int) -> int:
        if self._processors.generating:
            return len(self._rows(element, number))
        if self.nominal:
            return self.batch_size or 0
        return batch_size(element, self.origin) if self.source.batched or self.source.stacked else 1

    def _probed(self) -> tuple[list[Rows], Any]:
        """Return the samples of the first elements, and the state at the beginning."""
        with closing(self.source.elements()) as elements:
            state = elements.state()
        raw: list[Rows] = []
        for number, element in enumerate(self.source.one_pass()):
            raw.append(self._rows(element, number))
            if number and sum(map(len, raw)) >= PROBED:
                break
        if not sum(map(len, raw)):
            raise no_samples(self.origin)
        return raw, state
