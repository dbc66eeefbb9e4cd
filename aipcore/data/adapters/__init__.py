"""Adapters from a scenario's data to samples by index, one module per kind of data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Any

import attrs

from aipcore.data.adapters.arrays import as_sides, first_rows, is_arrays, stacked_arrays
from aipcore.data.adapters.elements import Convert, no_samples
from aipcore.data.adapters.indexed import FirstSamples, IndexedSamples, is_indexed, refuse_endless
from aipcore.data.adapters.iterables import (
    IterableSource,
    called,
    has_batches,
    has_state,
    is_loader,
    refuse_batches,
    refuse_split,
)
from aipcore.data.adapters.py_dataset import BatchSource, is_py_dataset
from aipcore.data.adapters.samples import SampleList, checked_samples, is_iterable, is_unsized, stack
from aipcore.data.adapters.tf_data import TensorSource, is_tf_dataset
from aipcore.data.dataset import Fields, MemoryDataset
from aipcore.data.processing import SkippedSamples
from aipcore.data.sample import Samples
from aipcore.data.stream import Source, Stream


def as_source(
    data: Any,
    origin: str,
    again: Callable[[], Any] | None = None,
    *,
    streamed: bool = False,
    process: tuple[int, int] = (0, 1),
) -> Source | None:
    """Return data as the source of a stream; None if it has samples by index.

    Args:
        data: see `Pipeline`.
        origin: the name of the data in errors, e.g. "Tutorial.train_data()".
        again: returns the data again, for an iterator, which can be read only once.
        streamed: True to read every iterable without a length as a stream.
        process: the index of this process and the number of processes, for a sharded `Stream`.

    Raises:
        DataError: the source cannot be used.
    """
    stream = data if isinstance(data, Stream) else None
    given: Any = data if stream is None else stream.source
    sharded = stream is not None and stream.sharded
    if stream is not None and sharded:
        given = partial(given, *process)
        stream = attrs.evolve(stream, source=given, sharded=False)
    found = given
    if stream is not None and stream.made:
        # A function may return a dataset with batches of its own.
        found = called(given, origin)
        given = found if is_tf_dataset(found) or is_py_dataset(found) or is_loader(found) else given
    if is_tf_dataset(given):
        return TensorSource(given, origin, *(() if stream is None else (stream.batched, stream.length)))
    if is_py_dataset(given):
        return BatchSource(given, origin)
    if stream is None or stream.batched is None:
        refuse_batches(found, origin)
    if stream is None and (isinstance(data, MemoryDataset) or is_arrays(data) or is_indexed(data)):
        return None
    loads = is_loader(given)
    if not sharded:
        refuse_split(found, origin)
    if stream is None and not (loads or has_state(data) or (streamed and is_unsized(data))):
        return None
    stream = stream or Stream(data)
    if stream.batched is None:
        stream = attrs.evolve(stream, batched=loads and has_batches(given))
    return IterableSource(stream, origin, again)


def is_stream(data: Any) -> bool:
    """Return True if data is always read as a stream."""
    return isinstance(data, Stream) or is_tf_dataset(data) or is_py_dataset(data) or is_loader(data) or has_state(data)


def as_samples(
    data: Any, origin: str, convert: Convert | None = None, skipped: SkippedSamples | None = None
) -> Samples:
    """Return samples by index, unprocessed.

    Args:
        data: see `Pipeline`.
        origin: the name of the data in errors.
        convert: the author's conversion of an entry, or None.
        skipped: counts the entries that cannot be converted; None: such an entry is an error.

    Raises:
        DataError: `data` is empty or has no adapter.
    """
    if isinstance(data, MemoryDataset) or is_arrays(data):
        return as_dataset(data, origin)
    if is_indexed(data):
        refuse_endless(data, origin)
        samples: Samples = IndexedSamples(data, origin, convert)
    else:
        samples = SampleList(list(checked_samples(data, origin, convert, skipped)))
    if len(samples) == 0:
        raise no_samples(origin)
    return samples


def as_dataset(
    data: Any,
    origin: str,
    convert: Convert | None = None,
    *,
    weighted: bool = True,
    skipped: SkippedSamples | None = None,
) -> MemoryDataset:
    """Return a dataset in memory, unprocessed.

    Args:
        data: see `Pipeline`; all samples are read.
        origin: the name of the data in errors.
        convert: the author's conversion of an entry, or None.
        weighted: True to keep the weights.
        skipped: counts the entries that cannot be converted; None: such an entry is an error.

    Raises:
        DataError: `data` has no adapter, is empty, or has samples of incompatible shapes or names.
    """
    if isinstance(data, MemoryDataset):
        dataset = data if weighted else attrs.evolve(data, weights=Fields())
    elif is_arrays(data):
        dataset = stacked_arrays(data, origin, weighted=weighted)
    else:
        samples: Iterable[Any] = data
        if is_indexed(data):
            refuse_endless(data, origin)
            indexed = IndexedSamples(data, origin, convert)
            samples, convert = (indexed[index] for index in range(len(indexed))), None
        dataset = stack(checked_samples(samples, origin, convert, skipped), origin, weighted=weighted)
    if len(dataset) == 0:
        raise no_samples(origin)
    return dataset


def first_samples(data: Any, count: int) -> Any:
    """Return the first `count` samples of a scenario's data, in the same form.

    An iterable is read no further. An indexed object is asked for no other samples.
    """
    if isinstance(data, MemoryDataset):
        return data.sliced(slice(count))
    if is_arrays(data):
        return tuple(None if side is None else first_rows(side, count) for side in as_sides(data))
    if is_indexed(data):
        return FirstSamples(data, count)
    # `as_samples` rejects data of any other kind.
    return islice(data, count) if is_iterable(data) else data
