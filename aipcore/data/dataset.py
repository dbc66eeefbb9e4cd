"""Datasets: samples by index, read in batches by the data loader, and in-memory columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.sample import SIDES, ColumnSpec, DeclaredSpecs, Sample, Specs
from aipcore.data.sampler import Indices, Visits
from aipcore.data.shared_memory import share
from aipcore.data.strings import OBJECT, dtype_name, length_of
from aipcore.errors import DataError

Array = npt.NDArray[Any]
Columns = dict[str, Array]

Padding = tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]


@attrs.frozen(kw_only=True, eq=False)
class Batch:
    """Samples stacked along the first axis.

    Attributes:
        inputs: per name, an array of shape [n, ...].
        targets: likewise.
        weights: likewise, in float32; empty if the samples are not weighted.
        meta: the `Sample.meta` of each of the n samples, or None if the data has none.
        kept: a mask of the requested samples that could be used, shape [requested]; None: all.
        errors: one error for each sample that could not be used.
    """

    inputs: Columns
    targets: Columns
    weights: Columns = attrs.field(factory=dict)
    meta: Sequence[Any] | None = None
    kept: npt.NDArray[np.bool_] | None = None
    errors: Sequence[str] = ()

    @property
    def sides(self) -> tuple[Columns, Columns, Columns]:
        """The columns of the inputs, the targets and the weights, as in `SIDES`."""
        return self.inputs, self.targets, self.weights


class Dataset(ABC):
    """Samples by index, read in batches. Each sample depends only on its index and epoch."""

    @property
    @abstractmethod
    def uniform(self) -> bool:
        """True if all samples have the same shape."""

    @property
    def separable(self) -> bool:
        """True if each of several processes makes only its samples of a batch; see `DataLoader.padded_alike`."""
        return self.uniform

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def sample(self, index: int, epoch: int = 0) -> Sample:
        """Return one sample as seen in an epoch.

        Raises:
            SampleError: the sample cannot be made.
        """

    @abstractmethod
    def batch(self, indices: Indices, epochs: Indices | None = None) -> Batch:
        """Return samples as a batch.

        Args:
            indices: the sample indices, shape [n].
            epochs: the number of earlier visits of each sample, shape [n]; by default 0.

        Raises:
            SampleError: a sample cannot be made and is not to be skipped.
        """

    def batches(self, requests: Iterable[Visits]) -> Generator[Batch, None, None]:
        """Yield one batch per request, in order. Requests may be read ahead."""
        for visits in requests:
            yield self.batch(visits.indices, visits.epochs)

    @abstractmethod
    def specs(self) -> Specs:
        """Return the specs of the inputs, the targets and the weights."""

    @abstractmethod
    def known(self) -> MemoryDataset:
        """Return samples in memory for inspection: all samples if in memory, otherwise the first ones."""

    @abstractmethod
    def lengths(self) -> npt.NDArray[np.int64]:
        """Return the number of input elements per sample, or of characters of strings, used for bucketing."""


@attrs.frozen(kw_only=True, eq=False)
class Fields:
    """The named columns of one side (inputs, targets or weights) of a dataset.

    Pickled for worker processes: large arrays are then in shared memory, here too, so that they are in memory once.

    Attributes:
        columns: by name, an array with samples along the first axis; if shapes differ, a list of arrays of one rank.
        bare: True if the author gave a single array instead of a mapping; its name is then empty.
    """

    columns: dict[str, Any] = attrs.field(factory=dict)
    bare: bool = False

    def __getitem__(self, index: int) -> Any:
        """Return this side of one sample; arrays are views."""
        if self.bare:
            return self.columns[""][index]
        return {name: column[index] for name, column in self.columns.items()} or None

    def __reduce__(self) -> tuple[Any, ...]:
        for name in self.columns:
            share(self.columns, name)
        return _fields, (self.columns, self.bare)


def _fields(columns: dict[str, Any], bare: bool) -> Fields:
    return Fields(columns=columns, bare=bare)


@attrs.frozen(kw_only=True, eq=False)
class MemoryDataset(Dataset):
    """Samples in memory as columns, gathered by index.

    Samples of different shapes are padded per batch, at the end of each axis, to the largest sample.

    Attributes:
        inputs: the columns.
        targets: likewise.
        weights: likewise, in float32; no columns if the samples are not weighted.
        meta: the `Sample.meta` of each sample, or None.
        declared: the specs declared by the author, or None.
        padding: per side, the padding values by column name; default 0, or an empty string.
    """

    inputs: Fields
    targets: Fields
    weights: Fields = attrs.field(factory=Fields)
    meta: Sequence[Any] | None = None
    declared: Specs | None = None
    padding: Padding = ({}, {}, {})

    @property
    def sides(self) -> tuple[Fields, Fields, Fields]:
        """The inputs, the targets and the weights, as in `SIDES`."""
        return self.inputs, self.targets, self.weights

    @property
    def uniform(self) -> bool:
        """See `Dataset`."""
        return all(isinstance(column, np.ndarray) for side in self.sides for column in side.columns.values())

    def __len__(self) -> int:
        return len(next(iter((self.inputs.columns or self.targets.columns).values()), ()))

    def __getitem__(self, index: int) -> Sample:
        inputs, targets, weight = (fields[index] for fields in self.sides)
        meta = None if self.meta is None else self.meta[index]
        return Sample(inputs=inputs, targets=targets, meta=meta, weight=weight)

    def sliced(self, part: slice) -> MemoryDataset:
        """Return a dataset of some consecutive samples; its arrays are views."""
        inputs, targets, weights = (
            attrs.evolve(side, columns={name: column[part] for name, column in side.columns.items()})
            for side in self.sides
        )
        meta = None if self.meta is None else self.meta[part]
        return attrs.evolve(self, inputs=inputs, targets=targets, weights=weights, meta=meta)

    def sample(self, index: int, epoch: int = 0) -> Sample:
        """See `Dataset`; its arrays are views."""
        return self[index]

    def batch(self, indices: Indices, epochs: Indices | None = None) -> Batch:
        """See `Dataset`; the samples are the same in each epoch."""
        inputs, targets, weights = (
            {name: _gathered(column, indices, padding.get(name, 0)) for name, column in fields.columns.items()}
            for fields, padding in zip(self.sides, self.padding, strict=True)
        )
        meta = None if self.meta is None else [self.meta[index] for index in indices.tolist()]
        return Batch(inputs=inputs, targets=targets, weights=weights, meta=meta)

    def specs(self) -> Specs:
        """See `Dataset`."""
        return self.declared or (_specs(self.inputs), _specs(self.targets), _specs(self.weights))

    def known(self) -> MemoryDataset:
        """See `Dataset`."""
        return self

    def lengths(self) -> npt.NDArray[np.int64]:
        """See `Dataset`."""
        lengths = np.zeros(len(self), np.int64)
        for column in self.inputs.columns.values():
            fixed = isinstance(column, np.ndarray) and column.dtype != OBJECT
            lengths += column[0].size if fixed else [length_of(row) for row in column]
        return lengths


def with_specs(dataset: MemoryDataset, declared: DeclaredSpecs | None, padding: Padding, origin: str) -> MemoryDataset:
    """Return a dataset with the author's declared specs and padding values.

    Raises:
        DataError: the specs do not match the samples, or a padding value names a missing column.
    """
    dataset = attrs.evolve(dataset, padding=padding)
    if declared is None:
        return dataset
    specs: Specs = declared if len(declared) == 3 else (*declared, dataset.specs()[2])
    for part, found, wanted in zip(SIDES, dataset.specs(), specs, strict=True):
        fits = found.keys() == wanted.keys() and all(
            spec.dtype == wanted[name].dtype
            and len(spec.shape) == len(wanted[name].shape)
            and all(ours in (None, size) for ours, size in zip(wanted[name].shape, spec.shape, strict=True))
            for name, spec in found.items()
        )
        if not fits:
            raise DataError(
                f"The {part} of {origin} are {_in_words(found)}, but sample_specs() declares {_in_words(wanted)}. "
                "Correct one of them."
            )
    return attrs.evolve(dataset, declared=specs)


def pad(arrays: Sequence[Array], value: Any, dtype: npt.DTypeLike) -> Array:
    """Stack arrays of one rank, padded with `value` at the end of each axis to the largest array."""
    first = arrays[0]
    shape = tuple(max(array.shape[axis] for array in arrays) for axis in range(first.ndim))
    if all(array.shape == shape for array in arrays):
        return np.stack(arrays, dtype=np.dtype(dtype), casting="same_kind")
    if dtype == OBJECT and not isinstance(value, str | bytes):
        value = ""
    padded = np.full((len(arrays), *shape), value, dtype)
    for row, array in zip(padded, arrays, strict=True):
        row[tuple(slice(size) for size in array.shape)] = array
    return padded


def _gathered(column: Any, indices: Indices, padding: Any) -> Array:
    if isinstance(column, np.ndarray):
        return np.take(column, indices, axis=0)
    return pad([column[index] for index in indices], padding, column[0].dtype)


def _specs(fields: Fields) -> dict[str, ColumnSpec]:
    specs = {}
    for name, column in fields.columns.items():
        if isinstance(column, np.ndarray):
            specs[name] = ColumnSpec(shape=column.shape[1:], dtype=dtype_name(column.dtype))
        else:
            first = column[0]
            shape = tuple(
                first.shape[axis] if len({array.shape[axis] for array in column}) == 1 else None
                for axis in range(first.ndim)
            )
            specs[name] = ColumnSpec(shape=shape, dtype=dtype_name(first.dtype))
    return specs


def _in_words(specs: Mapping[str, ColumnSpec]) -> str:
    return ", ".join(f"{name or 'an array'} {spec.shape} {spec.dtype}" for name, spec in specs.items()) or "none"
