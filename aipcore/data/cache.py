"""Reading of all samples once before the first epoch, to cache or count them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from aipcore.data.adapters.elements import bytes_of
from aipcore.data.adapters.samples import SampleList
from aipcore.data.parallel import for_each
from aipcore.data.processing import Processors, SampleError, SkippedSamples
from aipcore.data.sample import Sample, Samples
from aipcore.data.sampler import Indices
from aipcore.data.worker_pool import WorkerPool
from aipcore.errors import DataError
from aipcore.params import names

ESTIMATED = 64
"""Samples used to estimate the memory of all samples."""


def cache(
    source: Samples,
    processors: Processors,
    skipped: SkippedSamples | None,
    limit: int | None,
    workers: WorkerPool | None = None,
) -> tuple[SampleList, Indices] | None:
    """Run the deterministic processors on all samples.

    Args:
        source: the samples.
        processors: the processors.
        skipped: counts the samples that cannot be used; None: an unusable sample is an error.
        limit: the most bytes to keep, or None.
        workers: the worker pool to use, or None.

    Returns:
        the samples with the index of the `source` sample that each was made from; or None once they clearly exceed the
        limit.

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
            size += bytes_of(sample)
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
    """Count the samples that the generating processors make.

    Returns:
        the index of the `source` sample for each generated sample, in order.

    Raises:
        DataError: a sample cannot be used, or no sample is generated.
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
    # The random numbers of a sample depend on the number of earlier samples, so samples are made in order.
    number = 0
    for source_index in range(len(source)):
        samples, errors = _expanded(source, processors, skips, source_index)
        made, failed = _run(samples, processors, skips, source_index, number)
        number += len(samples)
        yield made, errors + failed


def _results(
    source: Samples, processors: Processors, skips: bool, indices: Iterable[int]
) -> list[tuple[list[Sample], list[str]]]:
    """Return, for each source sample, the samples made from it and the errors of those left out."""
    results = []
    for index in indices:
        samples, errors = _expanded(source, processors, skips, index)
        made, failed = _run(samples, processors, skips, index, index)
        results.append((made, errors + failed))
    return results


def _counts(
    source: Samples, processors: Processors, skips: bool, indices: Iterable[int]
) -> list[tuple[int, list[str]]]:
    """Return, for each source sample, the number of samples generated from it and the errors of those left out."""
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
    """Run the deterministic processors on the samples generated from one source sample; `first` is the first index."""
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
        reason = f"The first error: {errors[0]}" if errors else "The generating processors drop every sample."
        samples = names.count(len(source), "sample")
        raise DataError(f"No sample of {processors.origin} is left after processing {samples}. {reason}")
