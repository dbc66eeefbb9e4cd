"""Batches of a stream: rows of stacked arrays, or samples that are processed."""

from __future__ import annotations

from itertools import repeat
from typing import Any

import attrs
import numpy as np

from aipcore.data.adapters.arrays import Ragged
from aipcore.data.batching import Collector, Layout, collect
from aipcore.data.dataset import Batch, MemoryDataset, pad
from aipcore.data.processing import Part, Processors, SampleError, SkippedSamples
from aipcore.data.sample import SIDES, Sample
from aipcore.data.sampler import Indices
from aipcore.data.stream_reader import Rows, samples_of
from aipcore.data.strings import dtype_name
from aipcore.errors import DataError
from aipcore.params.names import count


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


@attrs.frozen(kw_only=True, eq=False)
class Stacking:
    """The rows of an element as a batch, without processing.

    Attributes:
        layout: the required layout of the samples.
        skipped: counts the samples that cannot be used; None: an unusable sample is an error.
    """

    layout: Layout
    skipped: SkippedSamples | None

    def empty(self) -> Batch:
        """Return a batch without samples."""
        return Collector(self.layout, 0).batch()

    def __call__(self, rows: Rows, size: int | None) -> Batch:
        """Return rows as a batch, in which the last of `size` samples may be missing.

        Raises:
            SampleError: the rows do not match the layout and are not to be skipped.
        """
        try:
            inputs, targets, weights = map(self._columns, SIDES, self.layout.sides, repeat(rows))
        except SampleError as error:
            if self.skipped is None:
                raise
            self.skipped.add([str(error)] * len(rows))
            return attrs.evolve(self.empty(), kept=np.zeros(len(rows) if size is None else size, bool))
        kept = None if size is None or len(rows) == size else np.arange(size) < len(rows)
        return Batch(inputs=inputs, targets=targets, weights=weights, kept=kept)

    def _columns(self, part: str, layout: Any, rows: Rows) -> dict[str, Any]:
        assert isinstance(rows, MemoryDataset)
        given = getattr(rows, part).columns
        shaped = {name: _padded(layout, name, column) for name, column in given.items()}
        columns: dict[str, Any] | None = layout.matching(shaped, len(rows))
        if columns is None:
            found = ", ".join(map(_in_words, given, given.values()))
            wanted = ", ".join(
                f"{name or 'one array'} {spec.dtype}{spec.shape}"
                for name, spec in self.layout.specs[SIDES.index(part)].items()
            )
            raise SampleError(
                f"A batch of {self.layout.origin} has the {part} {found or 'none'}, but the first batches have "
                f"{wanted or 'none'}. Make the batches alike, or declare axes that vary in sample_specs()."
            )
        return columns


def processed(samples: list[Sample], processors: Processors, part: Part, *, skips: bool) -> list[Sample]:
    """Return the first samples after all processors. Unusable ones are left out if they are skipped.

    Raises:
        DataError: no sample can be used, or one cannot be used and is not to be skipped.
    """
    made: list[Sample] = []
    for n, each in enumerate(samples):
        try:
            made.append(processors.run(part, each, index=n, visit=0, source_index=n))
        except SampleError:
            # The sample is counted when an epoch reaches it.
            if not skips:
                raise
    if not made:
        raise DataError(
            f"None of the first {count(max(1, len(samples)), 'sample')} of {processors.origin} can be used. Set "
            "--data.on_error raise to see the error."
        )
    return made


def with_ragged(dataset: MemoryDataset, raw: list[Rows], part: Part) -> MemoryDataset:
    """Return the first samples with specs that declare the varying axes of ragged tensors."""
    first = raw[0]
    if part or dataset.declared is not None or not isinstance(first, MemoryDataset):
        return dataset
    sides = []
    for specs, rows in zip(dataset.specs(), first.sides, strict=True):
        ranks = {name: each.rank for name, each in rows.columns.items() if isinstance(each, Ragged)}
        varying = {name: (None,) * rank + specs[name].shape[rank:] for name, rank in ranks.items() if name in specs}
        sides.append({name: attrs.evolve(spec, shape=varying.get(name, spec.shape)) for name, spec in specs.items()})
    return attrs.evolve(dataset, declared=(sides[0], sides[1], sides[2]))


def _padded(layout: Any, name: str, column: Any) -> Any:
    if not isinstance(column, Ragged):
        return column
    return pad(column, layout.padding.get(name, 0), column[0].dtype) if column else np.zeros(0)


def _in_words(name: str, column: Any) -> str:
    if isinstance(column, Ragged):
        return f"{name or 'one array'} of varying shapes"
    return f"{name or 'one array'} {dtype_name(column.dtype)}{column.shape[1:]}"


def in_slots(parts: list[Rows], size: int | None) -> list[Sample | None]:
    """Return one entry for each index; None where a batch of the source, of at most `size` samples, has no sample."""
    samples: list[Sample | None] = []
    for rows in parts:
        samples.extend(samples_of([rows]))
        samples += [None] * ((size or len(rows)) - len(rows))
    return samples


def share_of(indices: Indices) -> Indices | None:
    """Return this process's positions among the samples from the first index to the last; None: all, in order."""
    if not len(indices) or np.array_equal(indices, np.arange(indices[0], indices[0] + len(indices))):
        return None
    positions: Indices = indices - indices.min()
    return positions


def check_parts(origin: str, samples: int, batch_size: int, processes: int) -> None:
    """Check that all processes have equal parts of each batch of a sharded stream.

    Raises:
        DataError: they have not.
    """
    if samples % batch_size or batch_size % processes:
        raise DataError(
            f"{origin} is sharded over {processes} processes, so all batches must be equal and divisible by "
            f"{processes}, but an epoch has {samples:,} samples in batches of {batch_size}. Change --train.batch_size "
            "or --trainer.samples_per_epoch."
        )


def no_length(origin: str, processes: int) -> DataError:
    """Return the error for a sharded stream whose passes are to be epochs."""
    return DataError(
        f"{origin} is sharded over {processes} processes, whose passes may differ in length. Set the number of samples "
        "of an epoch with --trainer.samples_per_epoch."
    )


def unequal_parts(origin: str) -> DataError:
    """Return the error for a sharded stream whose parts of a batch may differ in size."""
    return DataError(
        f"{origin} is sharded, so its elements must be samples of one shape, and none can be skipped. Return samples "
        "instead of batches, pad them, and leave --data.on_error out."
    )
