"""Data sets whose samples are made when they are needed."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.base import Base, Generated
from aipcore.data.chain import Chain, Part, SampleError, SkippedSamples
from aipcore.data.collate import Collector, Layout
from aipcore.data.convert import from_samples
from aipcore.data.dataset import ArrayDataset, Columns, Padding, Rows, SampleDataset
from aipcore.data.order import Visits
from aipcore.data.samples import Sample
from aipcore.data.specs import Specs
from aipcore.errors import DataError

Array = npt.NDArray[Any]

PROBED = 32
"""Samples that are made to find shapes and types: the first half of them, and as many spread over the data."""


@attrs.frozen(kw_only=True, eq=False)
class StreamedDataset:
    """Samples that are made on demand, each a function of (seed, earlier visits, index).

    Attributes:
        base: the samples to start from.
        chain: all processors.
        part: those that run on demand.
        bare: whether inputs and targets are single arrays without names.
        declared: the specs.
        padding: per side, the value that fills the columns of a batch, by name; 0 if not named.
        skipped: counts the samples that could not be used; None: they are errors.
        first: the first samples, in memory.
    """

    base: Base
    chain: Chain
    part: Part
    bare: tuple[bool, bool]
    declared: Specs
    padding: Padding
    skipped: SkippedSamples | None
    first: ArrayDataset | SampleDataset
    _layout: Layout = attrs.field(init=False)

    @_layout.default
    def _make_layout(self) -> Layout:
        return Layout(self.declared, self.bare, self.padding, self.chain.origin)

    def __len__(self) -> int:
        return len(self.base)

    @property
    def again(self) -> Part:
        """All that runs on demand, generating processors included."""
        return [*self.chain.generating, *self.part] if isinstance(self.base, Generated) else self.part

    @property
    def uniform(self) -> bool:
        """See `Dataset`."""
        return self._layout.stacked

    def specs(self) -> Specs:
        """See `Dataset`."""
        return self.declared

    def known(self) -> ArrayDataset | SampleDataset:
        """See `Dataset`."""
        return self.first

    def lengths(self) -> npt.NDArray[np.int64]:
        """See `Dataset`; of the samples on their first visit, all of which are made for this, once."""
        return np.asarray([self._length(index) for index in range(len(self))])

    def _length(self, index: int) -> int:
        try:
            inputs = self.sample(index).inputs
        except SampleError:
            # It is counted, or raised, when it is met in an epoch.
            return 0
        values = inputs.values() if isinstance(inputs, Mapping) else [inputs]
        return sum(np.size(value) for value in values)

    def sample(self, index: int, visit: int = 0) -> Sample:
        """One processed sample.

        Raises:
            SampleError: it cannot be read or processed.
        """
        visit = visit if self.chain.varying else 0
        sample, source_index = self.base.get(index)
        return self.chain.run(self.part, sample, index=index, visit=visit, source_index=source_index)

    def take(self, indices: npt.NDArray[np.int64]) -> tuple[Columns, Columns]:
        """See `Dataset`; on their first visit."""
        rows = next(self.fetch([Visits(indices=indices, passes=np.zeros(len(indices), np.int64))]))
        return rows.inputs, rows.targets

    def fetch(self, requests: Iterable[Visits]) -> Generator[Rows, None, None]:
        """See `Dataset`.

        Raises:
            SampleError: a sample cannot be made, and is not to be skipped.
        """
        for visits in requests:
            yield self._rows(visits)

    def _rows(self, visits: Visits) -> Rows:
        collector = Collector(self._layout, len(visits.indices))
        kept = None
        pairs = zip(visits.indices.tolist(), visits.passes.tolist(), strict=True)
        for number, (index, visit) in enumerate(pairs):
            try:
                collector.add(self.sample(index, visit), index)
            except SampleError as error:
                if self.skipped is None:
                    raise
                self.skipped.add(error)
                kept = np.ones(len(visits.indices), bool) if kept is None else kept
                kept[number] = False
        return collector.rows(kept)


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
    first = 0
    for index in (*range(head), *spread):
        try:
            sample, source_index = base.get(index)
            made.append(chain.run(part, sample, index=index, visit=0, source_index=source_index))
        except SampleError:
            # It is counted when it is met in an epoch.
            if skipped is None:
                raise
        first = len(made) if index < head else first
    if not made:
        raise DataError(
            f"None of {PROBED} samples of {chain.origin} can be used: set --data.on_error raise to see why."
        )
    both = from_samples(made, chain.origin)
    return (from_samples(made[:first], chain.origin) if first else both), both
