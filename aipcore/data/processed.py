"""Processed samples, made on demand: one by one, and as batches."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.adapters.samples import stack
from aipcore.data.batching import Layout, collect
from aipcore.data.dataset import Batch, Dataset, MemoryDataset
from aipcore.data.processing import Part, Processors, SampleError
from aipcore.data.random import partner_indices
from aipcore.data.sample import Sample, Samples, Specs
from aipcore.data.sampler import Indices
from aipcore.data.strings import length_of
from aipcore.data.vectorized import VectorizedProcessing
from aipcore.errors import DataError
from aipcore.params.names import count

PROBED = 32
"""Samples made to determine shapes and dtypes: half from the start, half spread over the data."""

MOST_DRAWS = 100
"""Unusable samples drawn as partners of one sample before that sample is left out."""


@attrs.frozen(eq=False)
class GeneratedSamples:
    """Samples made by generating processors on every access.

    Attributes:
        source: the author's samples.
        processors: the processors.
        source_indices: the index of the author's sample for each generated sample, in order.
    """

    source: Samples
    processors: Processors
    source_indices: Indices
    _local: threading.local = attrs.field(factory=threading.local, init=False)

    def __len__(self) -> int:
        return len(self.source_indices)

    def __reduce__(self) -> tuple[Any, ...]:
        return GeneratedSamples, (self.source, self.processors, self.source_indices)

    def __getitem__(self, index: int) -> Sample:
        source_index = int(self.source_indices[index])
        # Neighbours are often made from the same source sample; in shuffled order they rarely follow each other.
        last, made = getattr(self._local, "last", (-1, []))
        if last != source_index:
            made = self.processors.expand(self.source[source_index], source_index)
            self._local.last = source_index, made
        first, end = np.searchsorted(self.source_indices, (source_index, source_index + 1)).tolist()
        if len(made) != end - first:
            raise DataError(
                f"The generating processors made {count(len(made), 'sample')} from sample {source_index} of "
                f"{self.processors.origin}, but {end - first} in the first pass. They must make the same samples on "
                "each call."
            )
        sample: Sample = made[index - first]
        return sample


@attrs.frozen(kw_only=True, eq=False)
class ProcessedSamples:
    """Samples made on demand, each a function of (seed, epoch, index).

    Attributes:
        source: the unprocessed samples.
        processors: all processors.
        part: the processors that run on demand.
        source_indices: the index of the author's sample for each sample of `source`; None: the same index.
        skips: True if samples that cannot be made are left out, also as partners; False if they are errors.
    """

    source: Samples
    processors: Processors
    part: Part
    source_indices: Indices | None = None
    skips: bool = False

    def __len__(self) -> int:
        return len(self.source)

    def sample(self, index: int, epoch: int = 0) -> Sample:
        """Return a sample.

        Raises:
            SampleError: the sample cannot be read or processed.
        """
        return self.process(self.part, self.source[index], index, epoch)

    def process(self, part: Part, sample: Sample, index: int, epoch: int = 0) -> Sample:
        """Run some of the processors on the sample `index`.

        Raises:
            SampleError: a processor fails.
        """
        source_index = index if self.source_indices is None else int(self.source_indices[index])
        visit = epoch if self.processors.random else 0
        return self.processors.run(part, sample, index=index, visit=visit, source_index=source_index, others=self)

    def draw(self, count: int, random: Any, *, position: int, index: int, visit: int) -> list[Sample]:
        """See `aipcore.data.processing.Partners`. Partners that cannot be used are drawn again if they are skipped."""
        before = [each for each in self.part if each[0] < position]
        partners: list[Sample] = []
        failures = 0
        while len(partners) < count:
            other = int(np.squeeze(partner_indices(random.random(), index, len(self))))
            try:
                partners.append(self.process(before, self.source[other], other, visit))
            except SampleError:
                # The other sample is counted when an epoch reaches it.
                failures += 1
                if not self.skips or failures == MOST_DRAWS:
                    raise
        return partners


@attrs.frozen(kw_only=True, eq=False)
class ProcessedDataset(Dataset):
    """A dataset of samples processed on demand.

    Attributes:
        samples: the processed samples.
        layout: the required layout of the samples.
        first: the first samples, in memory.
    """

    samples: ProcessedSamples
    layout: Layout
    first: MemoryDataset

    @cached_property
    def vectorized(self) -> VectorizedProcessing | None:
        """The vectorized processing of the samples, or None if it is not available."""
        samples = self.samples
        if not isinstance(samples.source, MemoryDataset):
            return None
        return VectorizedProcessing.make(samples.source, samples.part, samples.processors.seed, self.layout)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def uniform(self) -> bool:
        """See `Dataset`."""
        return self.layout.stacked

    @property
    def separable(self) -> bool:
        """See `Dataset`. False if samples are skipped: a skipped sample makes the batch smaller for all processes."""
        return not self.samples.skips

    def sample(self, index: int, epoch: int = 0) -> Sample:
        """See `Dataset`."""
        return self.samples.sample(index, epoch)

    def batch(self, indices: Indices, epochs: Indices | None = None) -> Batch:
        """See `Dataset`."""
        if epochs is None or not self.samples.processors.random:
            epochs = np.zeros(len(indices), np.int64)
        if self.vectorized is not None and (batch := self.vectorized.batch(indices, epochs)) is not None:
            return batch
        visits = list(zip(indices.tolist(), epochs.tolist(), strict=True))
        skips = self.samples.skips
        return collect(self.layout, indices.tolist(), lambda n: self.samples.sample(*visits[n]), skips=skips)

    def specs(self) -> Specs:
        """See `Dataset`."""
        return self.layout.specs

    def known(self) -> MemoryDataset:
        """See `Dataset`."""
        return self.first

    def lengths(self) -> npt.NDArray[np.int64]:
        """See `Dataset`. Makes all samples once, as seen on their first visit."""
        return np.asarray(self.lengths_of(range(len(self))))

    def lengths_of(self, indices: Iterable[int]) -> list[int]:
        """Return the lengths of some samples; 0 for an unusable sample, which is counted when an epoch reaches it."""
        return [self._length(index) for index in indices]

    def _length(self, index: int) -> int:
        try:
            inputs = self.samples.sample(index).inputs
        except SampleError:
            return 0
        values = inputs.values() if isinstance(inputs, Mapping) else [inputs]
        return sum(map(length_of, values))

    def check_vectorized(self) -> None:
        """Check that vectorized processing gives the same results as processing one by one.

        Raises:
            ScenarioError: the results differ.
        """
        if self.vectorized is not None and len(self.first) == min(PROBED // 2, len(self)):
            self.vectorized.compare(self.first, self.layout.origin)


def probe(samples: ProcessedSamples) -> tuple[MemoryDataset, MemoryDataset]:
    """Make some samples as seen on their first visit.

    Returns:
        the first samples; and the same with samples spread over the data, to determine shapes.

    Raises:
        DataError: no sample can be made.
    """
    size, origin = len(samples), samples.processors.origin
    head = min(PROBED // 2, size)
    spread = sorted({int(each) for each in np.linspace(head, size - 1, PROBED - head)} if head < size else ())
    made: list[Sample] = []
    indices: list[int] = []
    first = 0
    for index in (*range(head), *spread):
        try:
            made.append(samples.sample(index))
            indices.append(index)
        except SampleError:
            # The sample is counted when an epoch reaches it.
            if not samples.skips:
                raise
        first = len(made) if index < head else first
    if not made:
        raise DataError(
            f"None of {PROBED} samples of {origin} can be used. Set --data.on_error raise to see the error."
        )
    both = stack(made, origin, indices)
    return (stack(made[:first], origin, indices) if first else both), both
