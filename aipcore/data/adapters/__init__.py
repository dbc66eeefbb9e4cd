"""Adapters from a scenario's data to samples by index, one module per kind of data."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import attrs

from aipcore.data.adapters.arrays import first_rows, is_arrays, stacked_arrays
from aipcore.data.adapters.indexed import FirstSamples, IndexedSamples, is_indexed
from aipcore.data.adapters.samples import SampleList, checked_samples, is_iterable, stack
from aipcore.data.dataset import Fields, MemoryDataset
from aipcore.data.sample import Samples
from aipcore.errors import DataError


def as_samples(data: Any, origin: str) -> Samples:
    """Return samples by index, unprocessed.

    Args:
        data: see `Pipeline`.
        origin: the name of the data in errors, e.g. "Tutorial.train_data()".

    Raises:
        DataError: `data` is empty or has no adapter.
    """
    if isinstance(data, MemoryDataset) or is_arrays(data):
        return as_dataset(data, origin)
    samples = IndexedSamples(data, origin) if is_indexed(data) else SampleList(list(checked_samples(data, origin)))
    if len(samples) == 0:
        raise _no_samples(origin)
    return samples


def as_dataset(data: Any, origin: str, *, weighted: bool = True) -> MemoryDataset:
    """Return a dataset in memory, unprocessed.

    Args:
        data: see `Pipeline`; all samples are read.
        origin: the name of the data in errors.
        weighted: True to keep the weights.

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
            indexed = IndexedSamples(data, origin)
            samples = (indexed[index] for index in range(len(indexed)))
        dataset = stack(checked_samples(samples, origin), origin, weighted=weighted)
    if len(dataset) == 0:
        raise _no_samples(origin)
    return dataset


def first_samples(data: Any, count: int) -> Any:
    """Return the first `count` samples of a scenario's data, in the same form.

    An iterable is read no further. An indexed object is asked for no other samples.
    """
    if isinstance(data, MemoryDataset):
        inputs, targets, weights = (attrs.evolve(side, columns=first_rows(side.columns, count)) for side in data.sides)
        return attrs.evolve(data, inputs=inputs, targets=targets, weights=weights, meta=first_rows(data.meta, count))
    if is_arrays(data):
        return tuple(first_rows(side, count) for side in data)
    if is_indexed(data):
        return FirstSamples(data, count)
    # `as_samples` rejects data of any other kind.
    return islice(data, count) if is_iterable(data) else data


def _no_samples(origin: str) -> DataError:
    return DataError(f"{origin} returned no samples. Check the data parameters and the files that they name.")
