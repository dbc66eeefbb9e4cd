"""In-memory data sets: columns of samples that are gathered by index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Columns = dict[str, Array]


@attrs.frozen(kw_only=True, eq=False)
class Fields:
    """The named columns of one side (inputs or targets) of a data set.

    Attributes:
        columns: per name, one array whose first axis counts the samples, or a list of arrays of one rank each.
        bare: whether the author gave a single array instead of a mapping; its name is then empty.
    """

    columns: dict[str, Any]
    bare: bool


@attrs.frozen(kw_only=True, eq=False)
class ColumnSpec:
    """Shape and type of one column: `shape` is that of one sample, None where it varies; `dtype` is NumPy's name."""

    shape: tuple[int | None, ...]
    dtype: str


@attrs.frozen(kw_only=True, eq=False)
class ArrayDataset:
    """Samples of equal shape, stacked once and only gathered by index afterwards."""

    inputs: Fields
    targets: Fields
    meta: Sequence[Any] | None = None

    uniform = True

    def __len__(self) -> int:
        return len(next(iter(self.inputs.columns.values()), ()))

    def take(self, indices: npt.NDArray[np.int64]) -> tuple[Columns, Columns]:
        """The inputs and targets of the samples at `indices` (shape [n]), each column of shape [n, ...]."""
        return (
            {name: np.take(column, indices, axis=0) for name, column in self.inputs.columns.items()},
            {name: np.take(column, indices, axis=0) for name, column in self.targets.columns.items()},
        )

    def specs(self) -> tuple[dict[str, ColumnSpec], dict[str, ColumnSpec]]:
        """The specs of the inputs and of the targets."""
        return _specs(self.inputs), _specs(self.targets)


@attrs.frozen(kw_only=True, eq=False)
class SampleDataset:
    """Samples whose shapes differ: a batch is padded with zeros, at the end of each axis, to its largest sample."""

    inputs: Fields
    targets: Fields
    meta: Sequence[Any] | None = None

    uniform = False

    def __len__(self) -> int:
        return len(next(iter(self.inputs.columns.values()), ()))

    def take(self, indices: npt.NDArray[np.int64]) -> tuple[Columns, Columns]:
        """The inputs and targets of the samples at `indices` (shape [n]), each column of shape [n, ...]."""
        return (
            {name: _batch(column, indices) for name, column in self.inputs.columns.items()},
            {name: _batch(column, indices) for name, column in self.targets.columns.items()},
        )

    def specs(self) -> tuple[dict[str, ColumnSpec], dict[str, ColumnSpec]]:
        """The specs of the inputs and of the targets."""
        return _specs(self.inputs), _specs(self.targets)


Dataset = ArrayDataset | SampleDataset


def _batch(column: Any, indices: npt.NDArray[np.int64]) -> Array:
    if isinstance(column, np.ndarray):
        return np.take(column, indices, axis=0)
    return _pad([column[index] for index in indices])


def _pad(arrays: list[Array]) -> Array:
    shape = tuple(max(array.shape[axis] for array in arrays) for axis in range(arrays[0].ndim))
    padded = np.zeros((len(arrays), *shape), dtype=np.result_type(*arrays))
    for row, array in zip(padded, arrays, strict=True):
        row[tuple(slice(size) for size in array.shape)] = array
    return padded


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
            specs[name] = ColumnSpec(shape=shape, dtype=np.result_type(*column).name)
    return specs
