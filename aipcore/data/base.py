"""What samples on demand start from: the source itself, kept samples, or those that generating processors make."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Protocol

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.chain import Chain, SampleError, SkippedSamples
from aipcore.data.samples import Sample
from aipcore.data.source import Source
from aipcore.errors import DataError

ESTIMATED = 64
"""Samples from which the memory for all of them is estimated."""


class Base(Protocol):
    """Samples behind the generating processors."""

    def __len__(self) -> int: ...

    def get(self, index: int) -> tuple[Sample, int]:
        """A sample, and the index in the source of the one that it was made of.

        Raises:
            SampleError: it cannot be read or made.
        """


@attrs.frozen(eq=False)
class Plain:
    """The samples of the source."""

    source: Source

    def __len__(self) -> int:
        return len(self.source)

    def get(self, index: int) -> tuple[Sample, int]:
        """See `Base`."""
        return self.source[index], index


@attrs.frozen(eq=False)
class Kept:
    """Samples in memory, processed as far as the same comes out each time."""

    samples: list[Sample]
    source_indices: list[int]

    def __len__(self) -> int:
        return len(self.samples)

    def get(self, index: int) -> tuple[Sample, int]:
        """See `Base`."""
        return self.samples[index], self.source_indices[index]


class Generated:
    """Samples that generating processors make again whenever one is needed.

    Args:
        source: where they come from.
        chain: the processors.
        counts: how many samples come of each sample of the source, shape [source].
    """

    def __init__(self, source: Source, chain: Chain, counts: npt.NDArray[np.int64]) -> None:
        self._source = source
        self._chain = chain
        self._ends = np.cumsum(counts)
        self._counts = counts
        # Neighbours come of the same sample of the source; in shuffled order they rarely meet.
        self._local = threading.local()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def get(self, index: int) -> tuple[Sample, int]:
        """See `Base`."""
        source_index = int(np.searchsorted(self._ends, index, side="right"))
        last, made = getattr(self._local, "last", (-1, []))
        if last != source_index:
            made = self._chain.expand(self._source[source_index], source_index)
            self._local.last = source_index, made
        if len(made) != self._counts[source_index]:
            raise DataError(
                f"Sample {source_index} of {self._chain.origin} gave {len(made)} samples, but "
                f"{self._counts[source_index]} when they were counted: generating processors must always make the same."
            )
        first = self._ends[source_index] - self._counts[source_index]
        return made[index - int(first)], source_index


def keep(source: Source, chain: Chain, skipped: SkippedSamples | None, limit: int | None) -> Kept | None:
    """Processes all samples as far as the same comes out each time.

    Args:
        source: the samples.
        chain: the processors.
        skipped: counts the samples that cannot be used; None: they are errors.
        limit: most bytes to keep, or None.

    Returns:
        the samples, or None as soon as it is clear that they do not fit.

    Raises:
        DataError: a sample cannot be used, or none is left.
    """
    kept = Kept([], [])
    errors: list[SampleError] = []
    size = number = 0
    for source_index in range(len(source)):
        for sample in _expanded(source, chain, source_index, skipped, errors):
            try:
                made = chain.run(chain.fixed, sample, index=number, visit=0, source_index=source_index)
            except SampleError as error:
                if skipped is None:
                    raise
                errors.append(error)
            else:
                kept.samples.append(made)
                kept.source_indices.append(source_index)
                size += _bytes(made.inputs) + _bytes(made.targets)
            number += 1
        read = source_index + 1
        if limit is not None and (size > limit or (read == ESTIMATED and size / read * len(source) > limit)):
            return None
    if not kept.samples:
        raise _nothing_left(source, chain, errors)
    _add(errors, skipped)
    return kept


def count(source: Source, chain: Chain, skipped: SkippedSamples | None) -> Generated:
    """Counts once what the generating processors make.

    Raises:
        DataError: a sample cannot be used, or nothing is made.
    """
    errors: list[SampleError] = []
    counts = [len(_expanded(source, chain, index, skipped, errors)) for index in range(len(source))]
    if not any(counts):
        raise _nothing_left(source, chain, errors)
    _add(errors, skipped)
    return Generated(source, chain, np.asarray(counts))


def _expanded(
    source: Source, chain: Chain, index: int, skipped: SkippedSamples | None, errors: list[SampleError]
) -> list[Sample]:
    try:
        return chain.expand(source[index], index)
    except SampleError as error:
        if skipped is None:
            raise
        errors.append(error)
        return []


def _add(errors: list[SampleError], skipped: SkippedSamples | None) -> None:
    if skipped is not None:
        for error in errors:
            skipped.add(error)


def _nothing_left(source: Source, chain: Chain, errors: list[SampleError]) -> DataError:
    reason = f"; the first error: {errors[0]}" if errors else ": the generating processors leave all out."
    return DataError(f"Nothing is left of the {len(source)} samples of {chain.origin} after processing{reason}")


def _bytes(side: Any) -> int:
    values = side.values() if isinstance(side, Mapping) else [side]
    return sum(np.asarray(value).nbytes for value in values if value is not None)
