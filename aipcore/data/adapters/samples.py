"""Iterables of `Sample`, read once and kept unchanged or stacked into columns."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs
import numpy as np

from aipcore.data.adapters.elements import Convert, as_sample, bytes_of
from aipcore.data.columns import GrowingSide, as_weight, row, stacked
from aipcore.data.dataset import MemoryDataset
from aipcore.data.processing import SampleError, SkippedSamples
from aipcore.data.sample import Sample, present
from aipcore.errors import AipError, DataError, located_sentence

SAMPLE_BYTES = 500
"""The memory of a sample besides its values."""


def is_iterable(data: Any) -> bool:
    """Return True if data may be an iterable of samples."""
    return isinstance(data, Iterable) and not isinstance(data, str | bytes | np.ndarray | Mapping)


def is_unsized(data: Any) -> bool:
    """Return True if data is an iterable that does not know its length, such as a generator."""
    return is_iterable(data) and not hasattr(data, "__len__")


class TooLargeError(Exception):
    """An iterable holds more than may be kept in memory."""


def within(samples: Iterable[Any], limit: int) -> Iterator[Any]:
    """Yield the entries of an iterable.

    Raises:
        TooLargeError: they clearly need more than `limit` bytes of memory.
    """
    nbytes = 0
    for each in samples:
        nbytes += SAMPLE_BYTES + bytes_of(each)
        if nbytes > limit:
            raise TooLargeError
        yield each


def checked_samples(
    data: Any, origin: str, convert: Convert | None = None, skipped: SkippedSamples | None = None
) -> Iterator[Sample]:
    """Yield the samples of an iterable.

    Args:
        data: the iterable.
        origin: the name of the data in errors.
        convert: the author's conversion of an entry, or None.
        skipped: counts the entries that cannot be converted; None: such an entry is an error.

    Raises:
        DataError: the data is not iterable, fails, or yields something that is not a sample; see `as_sample`.
    """
    if callable(data) and not isinstance(data, type) and not hasattr(data, "__iter__"):
        name = getattr(data, "__name__", type(data).__name__)
        raise DataError(
            f"{origin} returned the function {name}. Return Stream({name}), which calls it in each pass, or return the "
            "result of a call."
        )
    if not is_iterable(data):
        raise DataError(
            f"{origin} returned {type(data).__name__}. Return a tuple (inputs, targets) or (inputs, targets, weights) "
            "of arrays whose first axis counts the samples, an iterable of Sample, or an object with __len__ and "
            "__getitem__."
        )
    samples = iter(data)
    for index in itertools.count():
        try:
            sample = next(samples)
        except StopIteration:
            return
        except (AipError, TooLargeError):
            raise
        except Exception as error:
            raise DataError(f"{origin} failed at sample {index}: {located_sentence(error)}.") from error
        try:
            made = as_sample(sample, index, origin, convert)
        except SampleError as error:
            if skipped is None:
                raise
            skipped.add([str(error)])
            continue
        yield made


@attrs.frozen(eq=False)
class SampleList:
    """Samples in memory, unchanged.

    Pickled as `StackedSamples`: a few large arrays are sent to worker processes quickly and shared between them, many
    small ones are not.
    """

    samples: list[Sample]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def __reduce__(self) -> tuple[Any, ...]:
        columns = {name: stacked([getattr(each, name) for each in self.samples]) for name in attrs.fields_dict(Sample)}
        return StackedSamples, (len(self), columns)


@attrs.frozen(eq=False)
class StackedSamples:
    """A `SampleList` in a worker process: columns made by `stacked`, one per attribute of `Sample`."""

    count: int
    columns: dict[str, Any]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        return Sample(**{name: row(column, index) for name, column in self.columns.items()})


def stack(
    samples: Iterable[Sample], origin: str, indices: Iterable[int] | None = None, *, weighted: bool = True
) -> MemoryDataset:
    """Stack samples as they come. Columns of varying shapes stay lists of arrays.

    Args:
        samples: the samples.
        origin: the name of the samples in errors.
        indices: the sample indices used in errors; by default counted from 0.
        weighted: True to keep the weights.

    Raises:
        DataError: the samples differ in names, a column has arrays of different ranks, or only some have weights.
    """
    inputs, targets = GrowingSide(f"{origin}: inputs"), GrowingSide(f"{origin}: targets")
    weights = GrowingSide(f"{origin}: weights")
    meta: list[Any] = []
    first: int | None = None
    first_has_weight = False
    for index, sample in zip(itertools.count() if indices is None else indices, samples, strict=False):
        inputs.add(sample.inputs, index)
        targets.add(sample.targets, index)
        meta.append(sample.meta)
        weight = sample.weight if weighted else None
        if weight is not None:
            weight = present(weight)
        if first is None:
            first, first_has_weight = index, weight is not None
        elif first_has_weight is (weight is None):
            missing, there = (index, first) if weight is None else (first, index)
            raise DataError(
                f"Sample {missing} of {origin} has no weight, but sample {there} has one. Give all samples a weight, "
                "or none of them."
            )
        if weight is not None:
            weights.add(_weight(weight, f"The weight of sample {index} of {origin}"), index)
    return MemoryDataset(
        inputs=inputs.fields(),
        targets=targets.fields(),
        weights=weights.fields(),
        meta=meta if any(each is not None for each in meta) else None,
    )


def _weight(given: Any, origin: str) -> Any:
    """Return the weight of a sample in float32."""
    if isinstance(given, Mapping):
        return {str(name): as_weight(value, f"{origin} for {name!r}") for name, value in given.items()}
    return as_weight(given, origin)
