"""What is done with samples, here or in a worker: make a batch, keep, count, measure lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import attrs
import numpy as np

from aipcore.data.at_once import AtOnce, at_once
from aipcore.data.base import Base
from aipcore.data.chain import Chain, Part, SampleError
from aipcore.data.collate import Collector, Layout
from aipcore.data.dataset import Rows
from aipcore.data.order import Visits
from aipcore.data.samples import Sample
from aipcore.data.source import Source


@attrs.frozen(kw_only=True, eq=False)
class BatchJob:
    """Makes samples on demand, side by side.

    Attributes:
        base: the samples to start from.
        chain: all processors.
        part: those that run on demand.
        layout: what the samples must look like.
        skips: whether a sample that cannot be made is left out instead of being an error.
    """

    base: Base
    chain: Chain
    part: Part
    layout: Layout
    skips: bool

    @cached_property
    def together(self) -> AtOnce | None:
        """What makes samples as arrays, where that can be done."""
        return at_once(self.base, self.chain, self.part, self.layout)

    def do(self, task: Visits) -> tuple[Rows, list[str]]:
        """The samples, and the errors of those that were left out.

        Raises:
            SampleError: one cannot be made, and is not to be left out.
        """
        if self.together is not None and (rows := self.together.rows(self._counted(task))) is not None:
            return rows, []
        collector = Collector(self.layout, len(task.indices))
        kept = None
        errors: list[str] = []
        pairs = zip(task.indices.tolist(), task.passes.tolist(), strict=True)
        for number, (index, visit) in enumerate(pairs):
            try:
                collector.add(self.sample(index, visit), index)
            except SampleError as error:
                if not self.skips:
                    raise
                errors.append(str(error))
                kept = np.ones(len(task.indices), bool) if kept is None else kept
                kept[number] = False
        return collector.rows(kept), errors

    def _counted(self, task: Visits) -> Visits:
        return task if self.chain.varying else attrs.evolve(task, passes=np.zeros_like(task.passes))

    def sample(self, index: int, visit: int) -> Sample:
        """One processed sample.

        Raises:
            SampleError: it cannot be read or processed.
        """
        visit = visit if self.chain.varying else 0
        sample, source_index = self.base.get(index)
        return self.chain.run(self.part, sample, index=index, visit=visit, source_index=source_index)


@attrs.frozen(eq=False)
class LengthsJob:
    """Finds the numbers of elements of the inputs, on the first visit."""

    batches: BatchJob

    def do(self, task: range) -> list[int]:
        """One for each sample; 0 if it cannot be made, which counts when it is met in an epoch."""
        return [self._length(index) for index in task]

    def _length(self, index: int) -> int:
        try:
            inputs = self.batches.sample(index, 0).inputs
        except SampleError:
            return 0
        values = inputs.values() if isinstance(inputs, Mapping) else [inputs]
        return sum(np.size(value) for value in values)


@attrs.frozen(eq=False)
class KeepJob:
    """Processes samples of the source as far as the same comes out each time.

    Attributes:
        source: the samples.
        chain: the processors.
        skips: whether a sample that cannot be used is left out instead of being an error.
    """

    source: Source
    chain: Chain
    skips: bool

    @property
    def counts(self) -> bool:
        """Whether a sample depends on how many there are before it, so that they must be made one after the other."""
        return self.chain.random_fixed and (self.skips or bool(self.chain.generating))

    def do(self, task: Sequence[int]) -> list[tuple[list[Sample], list[str]]]:
        """For each sample of the source, what becomes of it, and the errors of what was left out.

        Raises:
            SampleError: one cannot be used, and is not to be left out.
        """
        return [self.one(index, index)[:2] for index in task]

    def one(self, source_index: int, number: int) -> tuple[list[Sample], list[str], int]:
        """What becomes of a sample of the source, errors, and the number of the next sample.

        Args:
            source_index: the sample of the source.
            number: how many samples come before behind the generating processors.
        """
        made, errors = [], []
        samples, failed = _expanded(self.source, self.chain, source_index, skips=self.skips)
        errors += failed
        for sample in samples:
            try:
                made.append(self.chain.run(self.chain.fixed, sample, index=number, visit=0, source_index=source_index))
            except SampleError as error:
                if not self.skips:
                    raise
                errors.append(str(error))
            number += 1
        return made, errors, number


@attrs.frozen(eq=False)
class CountJob:
    """Counts what generating processors make."""

    source: Source
    chain: Chain
    skips: bool

    def do(self, task: Sequence[int]) -> list[tuple[int, list[str]]]:
        """For each sample of the source, the number, and why it is 0.

        Raises:
            SampleError: one cannot be used, and is not to be left out.
        """
        expanded = [_expanded(self.source, self.chain, index, skips=self.skips) for index in task]
        return [(len(samples), errors) for samples, errors in expanded]


def _expanded(source: Source, chain: Chain, index: int, *, skips: bool) -> tuple[list[Sample], list[str]]:
    try:
        return chain.expand(source[index], index), []
    except SampleError as error:
        if not skips:
            raise
        return [], [str(error)]
