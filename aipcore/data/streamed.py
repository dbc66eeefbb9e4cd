"""Data sets whose samples are made when they are needed."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable
from contextlib import closing
from itertools import islice, tee

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.adapters import from_samples
from aipcore.data.batching import Layout
from aipcore.data.dataset import ArrayDataset, Padding, Rows, SampleDataset, Sides
from aipcore.data.parallel import BatchJob, Choice, Delegation, LengthsJob, for_each, timed
from aipcore.data.processing import Chain, Part, SampleError, SkippedSamples
from aipcore.data.sample import SIDES, Sample, Specs
from aipcore.data.sampler import Visits
from aipcore.data.sources import Base, DatasetSource, Generated
from aipcore.data.vectorized import compare
from aipcore.data.worker_pool import WorkerPool
from aipcore.errors import DataError

PROBED = 32
"""Samples that are made to find shapes and types: the first half of them, and as many spread over the data."""


@attrs.frozen(kw_only=True, eq=False)
class StreamedDataset:
    """Samples that are made on demand, each a function of (seed, earlier visits, index).

    Attributes:
        base: the samples to start from.
        chain: all processors.
        part: those that run on demand.
        bare: for each side, whether it is a single array without a name.
        declared: the specs.
        padding: per side, the value that fills the columns of a batch, by name; 0 if not named.
        skipped: counts the samples that could not be used; None: they are errors.
        first: the first samples, in memory.
        workers: who may make them; None: nobody else.
    """

    base: Base
    chain: Chain
    part: Part
    bare: tuple[bool, bool, bool]
    declared: Specs
    padding: Padding
    skipped: SkippedSamples | None
    first: ArrayDataset | SampleDataset
    workers: WorkerPool | None = None
    _job: BatchJob = attrs.field(init=False)
    _delegation: Delegation = attrs.field(init=False)

    @_job.default
    def _make_job(self) -> BatchJob:
        layout = Layout(self.declared, self.bare, self.padding, self.chain.origin)
        return BatchJob(base=self.base, chain=self.chain, part=self.part, layout=layout, skips=self.skipped is not None)

    @_delegation.default
    def _make_delegation(self) -> Delegation:
        return Delegation(self.workers, self._job)

    def __len__(self) -> int:
        return len(self.base)

    @property
    def again(self) -> Part:
        """All that runs on demand, generating processors included."""
        return [*self.chain.generating, *self.part] if isinstance(self.base, Generated) else self.part

    @property
    def uniform(self) -> bool:
        """See `Dataset`."""
        return self._job.layout.stacked

    @property
    def separable(self) -> bool:
        """See `Dataset`; a batch is smaller, for all workers, if any sample is left out."""
        return self.uniform and self.skipped is None

    def specs(self) -> Specs:
        """See `Dataset`."""
        return self.declared

    def known(self) -> ArrayDataset | SampleDataset:
        """See `Dataset`."""
        return self.first

    def lengths(self) -> npt.NDArray[np.int64]:
        """See `Dataset`; of the samples on their first visit, all of which are made for this, once."""
        return np.asarray(list(for_each(LengthsJob(self._job), len(self), self.workers)))

    def sample(self, index: int, visit: int = 0) -> Sample:
        """One processed sample.

        Raises:
            SampleError: it cannot be read or processed.
        """
        return self._job.sample(index, visit)

    def check_together(self) -> None:
        """Tries whether samples that are made together come out as they do alone.

        Raises:
            ScenarioError: they do not.
        """
        if self._job.together is not None and len(self.first) == min(PROBED // 2, len(self)):
            source = DatasetSource(self.first)
            compare(self._job.together, [source[index] for index in range(len(source))], self.chain.origin)

    def take(self, indices: npt.NDArray[np.int64]) -> Sides:
        """See `Dataset`; on their first visit."""
        rows, errors = self._job.do(_first_visits(indices))
        self._skip(errors)
        return rows.inputs, rows.targets, rows.weights

    def choice(self) -> Choice:
        """Who makes the samples; measured on the first call.

        Raises:
            DataError: a sample cannot be made, or workers are demanded and cannot be had.
        """
        if self._delegation.choice is None:
            timing = None
            if self._delegation.possible:
                timing = timed(lambda indices: self._job.do(_first_visits(np.asarray(indices))), len(self))
            self._delegation.choose(timing, len(self))
        assert self._delegation.choice is not None
        return self._delegation.choice

    def fetch(self, requests: Iterable[Visits]) -> Generator[Rows, None, None]:
        """See `Dataset`.

        Raises:
            SampleError: a sample cannot be made, and is not to be skipped.
        """
        choice = self.choice()
        # Batches that are filled up are made as a whole.
        task = choice.task if choice.workers and self.uniform else sys.maxsize
        requests, again = tee(requests)
        parts = (part for visits in again for part in _cut(visits, task))
        with closing(self._delegation.run(parts, lambda part: len(part.indices))) as answers:
            for visits in requests:
                made = list(islice(answers, len(_cut(visits, task))))
                for _, errors in made:
                    self._skip(errors)
                yield _joined([rows for rows, _ in made], [len(part.indices) for part in _cut(visits, task)])

    def _skip(self, errors: list[str]) -> None:
        if self.skipped is not None:
            for error in errors:
                self.skipped.add(error)


def _first_visits(indices: npt.NDArray[np.int64]) -> Visits:
    return Visits(indices=indices, epochs=np.zeros(len(indices), np.int64))


def _cut(visits: Visits, size: int) -> list[Visits]:
    starts = range(0, len(visits.indices), size)
    return [Visits(indices=visits.indices[n : n + size], epochs=visits.epochs[n : n + size]) for n in starts]


def _joined(parts: list[Rows], sizes: list[int]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    kept = None
    if any(part.kept is not None for part in parts):
        pairs = zip(parts, sizes, strict=True)
        kept = np.concatenate([np.ones(size, bool) if part.kept is None else part.kept for part, size in pairs])
    meta = None
    if any(part.meta is not None for part in parts):
        meta = [each for part in parts for each in part.meta or [None] * _length(part)]
    inputs, targets, weights = (
        {name: np.concatenate([getattr(part, side)[name] for part in parts]) for name in getattr(parts[0], side)}
        for side in SIDES
    )
    return Rows(inputs=inputs, targets=targets, weights=weights, meta=meta, kept=kept)


def _length(rows: Rows) -> int:
    return len(next(iter((rows.inputs or rows.targets).values())))


def probe(
    base: Base,
    chain: Chain,
    part: Part,
    skipped: SkippedSamples | None,
) -> tuple[ArrayDataset | SampleDataset, ArrayDataset | SampleDataset]:
    """Makes some samples of their first visit.

    Returns:
        the first samples, and these with others that are spread over the data, from which shapes are found.

    Raises:
        DataError: none can be made.
    """
    head = min(PROBED // 2, len(base))
    spread = sorted({int(each) for each in np.linspace(head, len(base) - 1, PROBED - head)} if head < len(base) else ())
    made: list[Sample] = []
    indices: list[int] = []
    first = 0
    for index in (*range(head), *spread):
        try:
            sample, source_index = base.get(index)
            made.append(chain.run(part, sample, index=index, visit=0, source_index=source_index))
            indices.append(index)
        except SampleError:
            # It is counted when it is met in an epoch.
            if skipped is None:
                raise
        first = len(made) if index < head else first
    if not made:
        raise DataError(
            f"None of {PROBED} samples of {chain.origin} can be used: set --data.on_error raise to see why."
        )
    both = from_samples(made, chain.origin, indices)
    return (from_samples(made[:first], chain.origin, indices) if first else both), both
