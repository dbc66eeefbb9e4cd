"""Where samples come from: random access to what a scenario returned as its data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Protocol

import attrs
import numpy as np

from aipcore.data.chain import SampleError
from aipcore.data.dataset import ArrayDataset, Fields, SampleDataset
from aipcore.data.samples import Sample
from aipcore.errors import AipError, DataError, located_sentence


class Source(Protocol):
    """Samples by index."""

    in_memory: bool
    """Whether asking for a sample costs nothing."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class DatasetSource:
    """The samples of a data set in memory; their arrays are views."""

    in_memory = True

    def __init__(self, dataset: ArrayDataset | SampleDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        meta = None if self.dataset.meta is None else self.dataset.meta[index]
        inputs, targets, weight = (
            _row(fields, index) for fields in (self.dataset.inputs, self.dataset.targets, self.dataset.weights)
        )
        return Sample(inputs=inputs, targets=targets, meta=meta, weight=weight)


@attrs.frozen(eq=False)
class ListSource:
    """Samples that an iterable gave."""

    samples: list[Sample]

    in_memory = True

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


@attrs.frozen(eq=False)
class AuthorSource:
    """An author's object with `__len__` and `__getitem__`, which may read a file each time."""

    given: Any
    origin: str

    in_memory = False

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, index: int) -> Sample:
        try:
            sample = self.given[index]
        except Exception as error:
            raise SampleError(
                f"Sample {index} of {self.origin} cannot be read: {located_sentence(error)}; mend it, or set "
                "--data.on_error skip."
            ) from error
        return _checked(sample, index, self.origin)


def is_arrays(data: Any) -> bool:
    """Whether data is a tuple (inputs, targets) or (inputs, targets, weights) of stacked arrays."""
    return isinstance(data, tuple) and len(data) in (2, 3) and not any(isinstance(part, Sample) for part in data)


def as_source(data: Any, origin: str) -> Source:
    """Gives random access to samples.

    Args:
        data: an iterable of `Sample`, which is read to its end and kept, or an object with `__len__` and `__getitem__`,
            which is asked for a sample whenever it is needed.
        origin: how errors call the data.

    Raises:
        DataError: it is neither, or holds something that is no `Sample`.
    """
    if by_index(data):
        return AuthorSource(data, origin)
    return ListSource(list(as_samples(data, origin)))


def by_index(data: Any) -> bool:
    """Whether data is an author's object that is asked for a sample whenever it is needed."""
    plain = isinstance(data, str | bytes | np.ndarray | Mapping | list | tuple)
    return not plain and hasattr(data, "__len__") and hasattr(data, "__getitem__")


def as_samples(data: Any, origin: str) -> Iterator[Sample]:
    """Goes through samples once; arguments and errors as for `as_source`."""
    if by_index(data):
        source = AuthorSource(data, origin)
        yield from (source[index] for index in range(len(source)))
        return
    if isinstance(data, str | bytes | np.ndarray | Mapping) or not isinstance(data, Iterable):
        raise DataError(
            f"{origin} returned {type(data).__name__}: return a tuple (inputs, targets) or (inputs, targets, weights) "
            "of arrays whose first axis counts the samples, an iterable of Sample, or an object with __len__ and "
            "__getitem__."
        )
    index = 0
    samples = iter(data)
    while True:
        try:
            sample = next(samples)
        except StopIteration:
            return
        except AipError:
            raise
        except Exception as error:
            raise DataError(f"{origin} failed at sample {index}: {located_sentence(error)}.") from error
        yield _checked(sample, index, origin)
        index += 1


def first_samples(data: Any, count: int) -> Any:
    """Return the first `count` samples of what a scenario returned as its data, in the same form.

    Of an iterable, no more are read; an object by index is not asked for others.
    """
    if isinstance(data, ArrayDataset | SampleDataset):
        inputs, targets, weights = (
            attrs.evolve(side, columns=_first_rows(side.columns, count))
            for side in (data.inputs, data.targets, data.weights)
        )
        return attrs.evolve(data, inputs=inputs, targets=targets, weights=weights, meta=_first_rows(data.meta, count))
    if is_arrays(data):
        return tuple(_first_rows(side, count) for side in data)
    if by_index(data):
        return _FirstSamples(data, count)
    # What is neither arrays nor samples is left for the pipeline to refuse.
    plain = isinstance(data, str | bytes | np.ndarray | Mapping) or not isinstance(data, Iterable)
    return data if plain else islice(data, count)


def _first_rows(side: Any, count: int) -> Any:
    if isinstance(side, Mapping):
        return {name: _first_rows(column, count) for name, column in side.items()}
    scalar = not hasattr(side, "__getitem__") or getattr(side, "ndim", None) == 0
    return side if scalar else side[:count]


@attrs.frozen(eq=False)
class _FirstSamples:
    given: Any
    count: int

    def __len__(self) -> int:
        return min(self.count, len(self.given))

    def __getitem__(self, index: int) -> Any:
        return self.given[index]


def _checked(sample: Any, index: int, origin: str) -> Sample:
    if not isinstance(sample, Sample):
        raise DataError(f"{origin} yielded {type(sample).__name__} at position {index}: yield Sample objects.")
    return sample


def _row(fields: Fields, index: int) -> Any:
    if fields.bare:
        return fields.columns[""][index]
    return {name: column[index] for name, column in fields.columns.items()} or None
