"""Data sets: what the training loop needs of any, and those in memory, whose samples are gathered by index."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, Protocol

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.sample import ColumnSpec, Specs
from aipcore.data.sampler import Visits

Array = npt.NDArray[Any]
Columns = dict[str, Array]
Sides = tuple[Columns, Columns, Columns]
"""The columns of the inputs, the targets and the weights of some samples, as in `SIDES`."""

Padding = tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]


@attrs.frozen(kw_only=True, eq=False)
class Fields:
    """The named columns of one side (inputs, targets or weights) of a data set.

    Attributes:
        columns: per name, one array whose first axis counts the samples, or a list of arrays of one rank each.
        bare: whether the author gave a single array instead of a mapping; its name is then empty.
    """

    columns: dict[str, Any]
    bare: bool


def _no_fields() -> Fields:
    return Fields(columns={}, bare=False)


@attrs.frozen(kw_only=True, eq=False)
class Rows:
    """Samples side by side.

    Attributes:
        inputs: per name, an array of shape [n, ...].
        targets: likewise.
        weights: likewise, in float32; empty if the samples are not weighted.
        meta: the `Sample.meta` of each of the n samples, or None if the data has none.
        kept: None, or which of the samples asked for these are, shape [asked]: the others could not be used.
    """

    inputs: Columns
    targets: Columns
    weights: Columns = attrs.field(factory=dict)
    meta: Sequence[Any] | None = None
    kept: npt.NDArray[np.bool_] | None = None


class Dataset(Protocol):
    """Samples by index."""

    @property
    def uniform(self) -> bool:
        """Whether all samples have one shape."""

    @property
    def separable(self) -> bool:
        """Whether some samples of a batch can be made without the others; not if they decide how it is padded."""

    def __len__(self) -> int: ...

    def take(self, indices: npt.NDArray[np.int64]) -> Sides:
        """The inputs, targets and weights of the samples at `indices` (shape [n]), each column of shape [n, ...]."""

    def fetch(self, requests: Iterable[Visits]) -> Generator[Rows, None, None]:
        """The samples of each request, in the order of the requests, which may be read ahead."""

    def specs(self) -> Specs:
        """The specs of the inputs, the targets and the weights."""

    def known(self) -> ArrayDataset | SampleDataset:
        """What can be looked at as a whole: this data set if it is in memory, or else its first samples."""

    def lengths(self) -> npt.NDArray[np.int64]:
        """For each sample, the number of elements of its inputs, by which samples are put into buckets."""


@attrs.frozen(kw_only=True, eq=False)
class ArrayDataset:
    """Samples of equal shape, stacked once and only gathered by index afterwards.

    Attributes:
        inputs: the columns.
        targets: likewise.
        weights: likewise, in float32; no columns if the samples are not weighted.
        meta: the `Sample.meta` of each sample, or None.
        declared: the specs that the author gave, or None.
    """

    inputs: Fields
    targets: Fields
    weights: Fields = attrs.field(factory=_no_fields)
    meta: Sequence[Any] | None = None
    declared: Specs | None = None

    uniform = separable = True

    def __len__(self) -> int:
        return len(next(iter((self.inputs.columns or self.targets.columns).values()), ()))

    def take(self, indices: npt.NDArray[np.int64]) -> Sides:
        """See `Dataset`."""
        inputs, targets, weights = (
            {name: np.take(column, indices, axis=0) for name, column in fields.columns.items()}
            for fields in (self.inputs, self.targets, self.weights)
        )
        return inputs, targets, weights

    def fetch(self, requests: Iterable[Visits]) -> Generator[Rows, None, None]:
        """See `Dataset`."""
        return _fetch(self, requests)

    def specs(self) -> Specs:
        """See `Dataset`."""
        return self.declared or (_specs(self.inputs), _specs(self.targets), _specs(self.weights))

    def known(self) -> ArrayDataset:
        """See `Dataset`."""
        return self

    def lengths(self) -> npt.NDArray[np.int64]:
        """See `Dataset`."""
        return np.full(len(self), sum(column[0].size for column in self.inputs.columns.values()))


@attrs.frozen(kw_only=True, eq=False)
class SampleDataset:
    """Samples whose shapes differ: a batch is padded, at the end of each axis, to its largest sample.

    Attributes:
        inputs: the columns.
        targets: likewise.
        weights: likewise, in float32; no columns if the samples are not weighted.
        meta: the `Sample.meta` of each sample, or None.
        declared: the specs that the author gave, or None.
        padding: per side, the value that fills the columns, by name; 0 if not named.
    """

    inputs: Fields
    targets: Fields
    weights: Fields = attrs.field(factory=_no_fields)
    meta: Sequence[Any] | None = None
    declared: Specs | None = None
    padding: Padding = ({}, {}, {})

    uniform = separable = False

    def __len__(self) -> int:
        return len(next(iter((self.inputs.columns or self.targets.columns).values()), ()))

    def take(self, indices: npt.NDArray[np.int64]) -> Sides:
        """See `Dataset`."""
        inputs, targets, weights = (
            {name: _batch(column, indices, padding.get(name, 0)) for name, column in fields.columns.items()}
            for fields, padding in zip((self.inputs, self.targets, self.weights), self.padding, strict=True)
        )
        return inputs, targets, weights

    def fetch(self, requests: Iterable[Visits]) -> Generator[Rows, None, None]:
        """See `Dataset`."""
        return _fetch(self, requests)

    def specs(self) -> Specs:
        """See `Dataset`."""
        return self.declared or (_specs(self.inputs), _specs(self.targets), _specs(self.weights))

    def known(self) -> SampleDataset:
        """See `Dataset`."""
        return self

    def lengths(self) -> npt.NDArray[np.int64]:
        """See `Dataset`."""
        sizes = [[row.size for row in column] for column in self.inputs.columns.values()]
        return np.asarray(np.asarray(sizes, np.int64).sum(axis=0))


def pad(arrays: Sequence[Array], value: Any, dtype: npt.DTypeLike) -> Array:
    """Stacks arrays of one rank, each filled up with `value` at the end of its axes to the largest of them."""
    first = arrays[0]
    shape = tuple(max(array.shape[axis] for array in arrays) for axis in range(first.ndim))
    if all(array.shape == shape for array in arrays):
        return np.stack(arrays, dtype=np.dtype(dtype), casting="same_kind")
    padded = np.full((len(arrays), *shape), value, dtype)
    for row, array in zip(padded, arrays, strict=True):
        row[tuple(slice(size) for size in array.shape)] = array
    return padded


def _fetch(dataset: ArrayDataset | SampleDataset, requests: Iterable[Visits]) -> Generator[Rows, None, None]:
    for visits in requests:
        inputs, targets, weights = dataset.take(visits.indices)
        meta = None if dataset.meta is None else [dataset.meta[index] for index in visits.indices.tolist()]
        yield Rows(inputs=inputs, targets=targets, weights=weights, meta=meta)


def _batch(column: Any, indices: npt.NDArray[np.int64], padding: Any) -> Array:
    if isinstance(column, np.ndarray):
        return np.take(column, indices, axis=0)
    return pad([column[index] for index in indices], padding, column[0].dtype)


def _specs(fields: Fields) -> dict[str, ColumnSpec]:
    specs = {}
    for name, column in fields.columns.items():
        if isinstance(column, np.ndarray):
            specs[name] = ColumnSpec(shape=column.shape[1:], dtype=column.dtype.name)
        else:
            first = column[0]
            shape = tuple(
                first.shape[axis] if len({array.shape[axis] for array in column}) == 1 else None
                for axis in range(first.ndim)
            )
            specs[name] = ColumnSpec(shape=shape, dtype=first.dtype.name)
    return specs
