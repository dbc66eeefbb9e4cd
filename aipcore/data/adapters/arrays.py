"""Stacked arrays: a tuple (inputs, targets) or (inputs, targets, weights) with samples along the first axis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.columns import as_array, as_weight
from aipcore.data.dataset import Fields, MemoryDataset
from aipcore.data.sample import SIDES, Sample, present
from aipcore.data.strings import OBJECT, holds_strings
from aipcore.errors import DataError


class Ragged(list[Any]):
    """The rows of a column, as arrays that differ in their shapes.

    Attributes:
        rank: the number of axes, from the first one of a row on, whose size varies.
    """

    def __init__(self, rows: Iterable[Any], rank: int) -> None:
        super().__init__(rows)
        self.rank = rank

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return Ragged(found, self.rank) if isinstance(index, slice) else found


def is_arrays(data: Any) -> bool:
    """Return True if data is (inputs, targets) or (inputs, targets, weights) of stacked arrays, or inputs alone."""
    if isinstance(data, tuple):
        return len(data) in (1, 2, 3) and not any(isinstance(part, Sample) for part in data)
    # An array, a tensor or a table.
    return isinstance(data, Mapping) or (hasattr(data, "shape") and hasattr(data, "__array__"))


def as_sides(data: Any) -> tuple[Any, Any, Any]:
    """Return the inputs, the targets and the weights of stacked arrays."""
    given = data if isinstance(data, tuple) else (data,)
    inputs, targets, weights = (*given, None, None)[:3]
    return inputs, targets, weights


def stacked_arrays(data: Any, origin: str, *, weighted: bool = True) -> MemoryDataset:
    """Return stacked arrays as a dataset.

    Args:
        data: up to three arrays, tensors, tables, mappings of these, or None; see `is_arrays`.
        origin: the name of the data in errors.
        weighted: True to keep the weights.

    Raises:
        DataError: an array cannot be stacked, or the arrays have different lengths.
    """
    inputs, targets, weight = as_sides(data)
    weights = _fields(present(weight if weighted else None), f"{origin}: weights")
    columns = {name: as_weight(column, f"An array of {origin}: weights") for name, column in weights.columns.items()}
    dataset = MemoryDataset(
        inputs=_fields(inputs, origin),
        targets=_fields(targets, origin),
        weights=attrs.evolve(weights, columns=columns),
    )
    lengths = {
        f"{part}[{name!r}]" if name else part: len(column)
        for part, side in zip(SIDES, dataset.sides, strict=True)
        for name, column in side.columns.items()
    }
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(
            f"{origin} returned arrays of different lengths ({counts}). Give each array one entry per sample."
        )
    return dataset


def first_rows(side: Any, count: int) -> Any:
    """Return the first `count` rows of an array, or of each array of a mapping."""
    if isinstance(side, Mapping):
        return {name: first_rows(column, count) for name, column in side.items()}
    scalar = not hasattr(side, "__getitem__") or getattr(side, "ndim", None) == 0
    return side if scalar else side[:count]


def _fields(tree: Any, origin: str) -> Fields:
    """Return the columns of stacked arrays. A bare array becomes a single unnamed column."""
    if tree is None:
        return Fields()
    if isinstance(tree, Mapping):
        return Fields(columns={str(key): _array(value, f"{origin}: {key!r}") for key, value in tree.items()})
    return Fields(columns={"": _array(tree, origin)}, bare=True)


def _array(value: Any, origin: str) -> Any:
    if isinstance(value, Ragged):
        return value
    array = as_array(value, origin)
    if array.dtype == OBJECT and not holds_strings(array):
        if hasattr(value, "columns"):
            raise DataError(
                f"{origin} holds a table whose columns have different types, or types other than numbers and strings. "
                "Return dict(table), so that each column is an input."
            )
        raise DataError(
            f"{origin} holds Python objects{_other(array)}, which cannot be stacked. Give numbers or strings. If the "
            "samples are arrays of different shapes, yield Sample objects: they are padded per batch."
        )
    if array.ndim == 0:
        raise DataError(f"{origin} is a single number. Use an array whose first axis counts the samples.")
    return np.asarray(array, dtype=np.float32) if array.dtype == np.float64 else array


def _other(array: npt.NDArray[Any]) -> str:
    """Return the first object that is not a string, with its index, if the samples are single objects."""
    if array.ndim != 1:
        return ""
    index, value = next((n, each) for n, each in enumerate(array) if not isinstance(each, str | bytes))
    return f" (sample {index} is of type {type(value).__name__})"
