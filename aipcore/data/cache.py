"""Reading all samples once before the first epoch, to cache or to count them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from aipcore.data.adapters.samples import SampleList
from aipcore.data.parallel import for_each
from aipcore.data.processing import Processors, SampleError, SkippedSamples
from aipcore.data.sample import Sample, Samples
from aipcore.data.sampler import Indices
from aipcore.data.worker_pool import WorkerPool
from aipcore.errors import DataError
from aipcore.params import names

ESTIMATED = 64
"""Samples from which the memory for all of them is estimated."""


def cache(
    source: Samples,
    processors: Processors,
    skipped: SkippedSamples | None,
    limit: int | None,
    workers: WorkerPool | None = None,
) -> tuple[SampleList, Indices] | None:
    """Process all samples as far as the same comes out each time.

    Args:
        source: the samples.
        processors: the processors.
        skipped: counts the samples that cannot be used; None: they are errors.
        limit: most bytes to keep, or None.
        workers: who may do it.

    Returns:
        the samples, and for each the index of the sample of `source` that it was made of; or None as soon as it is
        clear that they do not fit.

    Raises:
        DataError: a sample cannot be used, or none is left.
    """
    samples: list[Sample] = []
    source_indices: list[int] = []
    errors: list[str] = []
    size = 0
    for source_index, (made, failed) in enumerate(_processed(source, processors, skipped is not None, workers)):
        errors += failed
        for sample in made:
            samples.append(sample)
            source_indices.append(source_index)
            size += _bytes(sample.inputs) + _bytes(sample.targets) + _bytes(sample.weight)
        read = source_index + 1
        if limit is not None and (size > limit or (read == ESTIMATED and size / read * len(source) > limit)):
            return None
    _check_left(samples, source, processors, errors)
    if skipped is not None:
        skipped.add(errors)
    return SampleList(samples), np.asarray(source_indices)


def count_generated(
    source: Samples, processors: Processors, skipped: SkippedSamples | None, workers: WorkerPool | None = None
) -> Indices:
    """Count once what the generating processors make.

    Returns:
        for each generated sample, the index of the sample of `source` that it is made of, in order.

    Raises:
        DataError: a sample cannot be used, or nothing is made.
    """
    errors: list[str] = []
    counts: list[int] = []
    for number, failed in for_each(partial(_counts, source, processors, skipped is not None), len(source), workers):
        counts.append(number)
        errors += failed
    source_indices = np.repeat(np.arange(len(counts)), counts)
    _check_left(source_indices, source, processors, errors)
    if skipped is not None:
        skipped.add(errors)
    return source_indices


def _processed(
    source: Samples, processors: Processors, skips: bool, workers: WorkerPool | None
) -> Iterator[tuple[list[Sample], list[str]]]:
    if not (processors.random_fixed and (skips or processors.generating)):
        yield from for_each(partial(_results, source, processors, skips), len(source), workers)
        return
    # What is drawn for a sample depends on how many there are before it, so they are made one after the other.
    number = 0
    for source_index in range(len(source)):
        samples, errors = _expanded(source, processors, skips, source_index)
        made, failed = _run(samples, processors, skips, source_index, number)
        number += len(samples)
        yield made, errors + failed


def _results(
    source: Samples, processors: Processors, skips: bool, indices: Iterable[int]
) -> list[tuple[list[Sample], list[str]]]:
    """For each sample of the source, what becomes of it, and the errors of what was left out."""
    results = []
    for index in indices:
        samples, errors = _expanded(source, processors, skips, index)
        made, failed = _run(samples, processors, skips, index, index)
        results.append((made, errors + failed))
    return results


def _counts(
    source: Samples, processors: Processors, skips: bool, indices: Iterable[int]
) -> list[tuple[int, list[str]]]:
    """For each sample of the source, how many are generated of it, and why it is left out."""
    expanded = (_expanded(source, processors, skips, index) for index in indices)
    return [(len(samples), errors) for samples, errors in expanded]


def _expanded(source: Samples, processors: Processors, skips: bool, index: int) -> tuple[list[Sample], list[str]]:
    try:
        return processors.expand(source[index], index), []
    except SampleError as error:
        if not skips:
            raise
        return [], [str(error)]


def _run(
    samples: list[Sample], processors: Processors, skips: bool, source_index: int, first: int
) -> tuple[list[Sample], list[str]]:
    """Runs the deterministic processors on the samples generated of one, `first` being the index of the first."""
    made, errors = [], []
    for index, sample in enumerate(samples, first):
        try:
            made.append(
                processors.run(processors.deterministic, sample, index=index, visit=0, source_index=source_index)
            )
        except SampleError as error:
            if not skips:
                raise
            errors.append(str(error))
    return made, errors


def _check_left(left: Any, source: Samples, processors: Processors, errors: list[str]) -> None:
    if len(left) == 0:
        reason = f"; the first error: {errors[0]}" if errors else ": the generating processors leave all out."
        samples = names.count(len(source), "sample")
        raise DataError(f"Nothing is left of the {samples} of {processors.origin} after processing{reason}")


def _bytes(side: Any) -> int:
    if side is None:
        return 0
    values = side.values() if isinstance(side, Mapping) else [side]
    return sum(np.asarray(value).nbytes for value in values if value is not None)
