"""Reading all samples once before the first epoch, to cache or to count them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from aipcore.data.parallel import CountJob, KeepJob, for_each
from aipcore.data.processing import Chain, SkippedSamples
from aipcore.data.sample import Sample
from aipcore.data.sources import Generated, Kept, Source
from aipcore.data.worker_pool import WorkerPool
from aipcore.errors import DataError
from aipcore.params import names

ESTIMATED = 64
"""Samples from which the memory for all of them is estimated."""


def keep(
    source: Source, chain: Chain, skipped: SkippedSamples | None, limit: int | None, workers: WorkerPool | None = None
) -> Kept | None:
    """Processes all samples as far as the same comes out each time.

    Args:
        source: the samples.
        chain: the processors.
        skipped: counts the samples that cannot be used; None: they are errors.
        limit: most bytes to keep, or None.
        workers: who may do it.

    Returns:
        the samples, or None as soon as it is clear that they do not fit.

    Raises:
        DataError: a sample cannot be used, or none is left.
    """
    kept = Kept([], [])
    errors: list[str] = []
    size = 0
    job = KeepJob(source, chain, skipped is not None)
    for source_index, (made, failed) in enumerate(_made(job, workers)):
        errors += failed
        for sample in made:
            kept.samples.append(sample)
            kept.source_indices.append(source_index)
            size += _bytes(sample.inputs) + _bytes(sample.targets) + _bytes(sample.weight)
        read = source_index + 1
        if limit is not None and (size > limit or (read == ESTIMATED and size / read * len(source) > limit)):
            return None
    if not kept.samples:
        raise _nothing_left(source, chain, errors)
    _add(errors, skipped)
    return kept


def count(source: Source, chain: Chain, skipped: SkippedSamples | None, workers: WorkerPool | None = None) -> Generated:
    """Counts once what the generating processors make.

    Raises:
        DataError: a sample cannot be used, or nothing is made.
    """
    errors: list[str] = []
    counts: list[int] = []
    for number, failed in for_each(CountJob(source, chain, skipped is not None), len(source), workers):
        counts.append(number)
        errors += failed
    if not any(counts):
        raise _nothing_left(source, chain, errors)
    _add(errors, skipped)
    return Generated(source, chain, np.asarray(counts))


def _made(job: KeepJob, workers: WorkerPool | None) -> Iterator[tuple[list[Sample], list[str]]]:
    if not job.counts:
        yield from for_each(job, len(job.source), workers)
        return
    number = 0
    for index in range(len(job.source)):
        made, errors, number = job.one(index, number)
        yield made, errors


def _add(errors: list[str], skipped: SkippedSamples | None) -> None:
    if skipped is not None:
        for error in errors:
            skipped.add(error)


def _nothing_left(source: Source, chain: Chain, errors: list[str]) -> DataError:
    reason = f"; the first error: {errors[0]}" if errors else ": the generating processors leave all out."
    return DataError(
        f"Nothing is left of the {names.count(len(source), 'sample')} of {chain.origin} after processing{reason}"
    )


def _bytes(side: Any) -> int:
    if side is None:
        return 0
    values = side.values() if isinstance(side, Mapping) else [side]
    return sum(np.asarray(value).nbytes for value in values if value is not None)
