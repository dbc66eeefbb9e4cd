"""Sources of samples by index: what a scenario returned, cached samples, generated ones."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Protocol

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.columns import Stack, stack
from aipcore.data.dataset import ArrayDataset, Fields, SampleDataset
from aipcore.data.processing import Chain, SampleError
from aipcore.data.sample import Sample
from aipcore.errors import AipError, DataError, located_sentence
from aipcore.params.names import count


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

    def __reduce__(self) -> tuple[Any, ...]:
        # Few large arrays are quickly sent to workers, and shared by them; many small ones are not.
        return Stacked, (stack(self.samples), np.asarray(self.source_indices))

    def get(self, index: int) -> tuple[Sample, int]:
        """See `Base`."""
        return self.samples[index], self.source_indices[index]


@attrs.frozen(eq=False)
class Arrays:
    """Kept samples of one shape, side by side."""

    dataset: ArrayDataset
    source_indices: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.dataset)

    def get(self, index: int) -> tuple[Sample, int]:
        """See `Base`."""
        return DatasetSource(self.dataset)[index], int(self.source_indices[index])


@attrs.frozen(eq=False)
class Stacked:
    """Kept samples in a worker."""

    samples: Stack
    source_indices: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.source_indices)

    def get(self, index: int) -> tuple[Sample, int]:
        """See `Base`."""
        return self.samples[index], int(self.source_indices[index])


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

    def __reduce__(self) -> tuple[Any, ...]:
        return Generated, (self._source, self._chain, self._counts)

    def get(self, index: int) -> tuple[Sample, int]:
        """See `Base`."""
        source_index = int(np.searchsorted(self._ends, index, side="right"))
        last, made = getattr(self._local, "last", (-1, []))
        if last != source_index:
            made = self._chain.expand(self._source[source_index], source_index)
            self._local.last = source_index, made
        if len(made) != self._counts[source_index]:
            raise DataError(
                f"Sample {source_index} of {self._chain.origin} gave {count(len(made), 'sample')}, but "
                f"{self._counts[source_index]} when they were counted: generating processors must always make the same."
            )
        first = self._ends[source_index] - self._counts[source_index]
        return made[index - int(first)], source_index
