"""Columns of samples: growing columns, and stacked columns that return each value unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from aipcore.data.dataset import Fields
from aipcore.data.strings import OBJECT, as_objects, holds_strings, type_of
from aipcore.errors import DataError

Array = npt.NDArray[Any]

LEAST_BYTES = 2**20
"""Smallest growth of a column in bytes. A large column grows by a sixteenth, which the system does without a copy."""


def as_array(value: Any, called: str) -> Array:
    """Return a value as an array; strings become objects.

    Raises:
        DataError: the value is a list of lists of different lengths, or holds times; `called` names it.
    """
    try:
        array = as_objects(value)
    except ValueError:
        raise DataError(f"{called} has rows of different lengths. Pad them to one length.") from None
    if array.dtype.kind in "mM":
        raise DataError(f"{called} has times of type {array.dtype}. Convert them to numbers, such as days.")
    return array


def as_weight(value: Any, called: str) -> Array:
    """Return a weight as an array of float32.

    Raises:
        DataError: the weight is neither a number nor an array of numbers; `called` names it.
    """
    array = as_array(value, called)
    # NumPy does not count bfloat16 as a float kind.
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise DataError(f"{called} is of type {type_of(array)}, not a number. Give a number or an array of numbers.")
    return array.astype(np.float32, copy=False)


class GrowingSide:
    """The inputs, targets or weights of samples that arrive one by one.

    Args:
        origin: the name of the data in errors.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._columns: dict[str, GrowingColumn] = {}
        self._names: list[str] | None = None
        self._bare = False
        self._first = 0

    def add(self, value: Any, index: int) -> None:
        """Add the value of the next sample: an array, a mapping of arrays, or None.

        Raises:
            DataError: the names or ranks differ from those of the first sample, or a value is of another type.
        """
        if self._bare and isinstance(value, np.ndarray | np.generic):
            self._columns[""].add(value, index)
            return
        bare = value is not None and not isinstance(value, Mapping)
        row = {"": value} if bare else dict(value or {})
        if self._names is None:
            self._names, self._bare, self._first = list(row), bare, index
            self._columns = {name: GrowingColumn(name, self._origin) for name in row}
        elif list(row) != self._names:
            raise DataError(
                f"In {self._origin}, sample {index} has the names {sorted(row)}, but sample {self._first} has "
                f"{sorted(self._names)}. Give all samples the same names."
            )
        for name, column in self._columns.items():
            column.add(row[name], index)

    def fields(self) -> Fields:
        """Return the columns of all added samples."""
        return Fields(columns={name: column.finished() for name, column in self._columns.items()}, bare=self._bare)


class GrowingColumn:
    """One column: a single array while all shapes are equal, then a list."""

    def __init__(self, name: str, origin: str) -> None:
        self._origin = f"{origin}[{name!r}]" if name else origin
        self._count = 0
        self._room: Array = np.empty(0)
        self._rows: list[Array] | None = None
        self._first: Array = np.empty(0)
        self._first_index = 0
        self._dtype: np.dtype[Any] = np.dtype(np.float32)

    def add(self, value: Any, index: int) -> None:
        """Add the next array.

        Raises:
            DataError: the rank differs from that of the first array, or the values are neither numbers nor strings.
        """
        numbers = type(value) is np.ndarray and value.dtype.kind in "biufc"
        array = value if numbers else as_array(value, f"{self._origin} of sample {index}")
        known = numbers and array.dtype is self._dtype and self._count
        if known and self._rows is None and array.shape == self._first.shape:
            self._put(array)
            self._count += 1
            return
        if not self._count:
            self._first, self._first_index, self._dtype = array, index, array.dtype
            self._room = np.empty((0, *array.shape), _narrow(array.dtype))
        elif self._dtype == OBJECT and array.size == 0:
            array = array.astype(object)
        text = array.dtype == OBJECT
        if text and not holds_strings(array):
            kind = next(type(each).__name__ for each in array.reshape(-1) if not isinstance(each, str | bytes))
            raise DataError(
                f"In {self._origin}, sample {index} holds a Python object of type {kind}. Give numbers or strings."
            )
        if array.ndim != self._first.ndim or text is not (self._dtype == OBJECT):
            raise DataError(
                f"In {self._origin}, sample {index} has shape {array.shape} and type {type_of(array)}, but sample "
                f"{self._first_index} has shape {self._first.shape} and type {type_of(self._first)}. Give all samples "
                "the same number of axes, and all numbers or all strings."
            )
        if array.dtype != self._dtype:
            self._dtype = np.result_type(array.dtype, self._dtype)
        if self._rows is None and array.shape != self._first.shape:
            self._rows = list(self._room[: self._count])
        if self._rows is not None:
            self._rows.append(array)
        else:
            if self._room.dtype != _narrow(self._dtype):
                self._room = self._room.astype(_narrow(self._dtype))
            self._put(array)
        self._count += 1

    def finished(self) -> Any:
        """Return an array of shape [samples, ...], or a list of arrays of one rank; 64-bit numbers become float32."""
        dtype = _narrow(self._dtype)
        if self._rows is not None:
            return [row.astype(dtype, copy=False) for row in self._rows]
        self._resize(self._count)
        return self._room.astype(dtype, copy=False)

    def _put(self, array: Array) -> None:
        if self._count == len(self._room):
            least = LEAST_BYTES // max(1, array.nbytes)
            self._resize(self._count + max(self._count // 16, least, 1))
        # With the ellipsis, a single string is not stored as an array.
        self._room[self._count, ...] = array

    def _resize(self, count: int) -> None:
        # Safe without the reference check: there is no view of the array yet.
        self._room.resize((count, *self._room.shape[1:]), refcheck=False)


def _narrow(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float32) if dtype == np.float64 else dtype


def stacked(values: list[Any]) -> Any:
    """Return values as a column for `row`: arrays of equal dtype and shape are stacked.

    Mappings with the same keys become a mapping of columns. Everything else stays a list.
    """
    first = values[0]
    if any(type(value) is not type(first) for value in values):
        return values
    if type(first) is dict and all(list(value) == list(first) for value in values):
        return {name: stacked([value[name] for value in values]) for name in first}
    if type(first) is np.ndarray and first.dtype != object and first.ndim:
        if all(value.shape == first.shape and value.dtype == first.dtype for value in values):
            return np.stack(values)
    elif isinstance(first, np.generic) and not isinstance(first, np.character):
        column = np.asarray(values)
        if type(column[0]) is type(first):
            return column
    return values


def row(column: Any, index: int) -> Any:
    """Return one value of a column made by `stacked`; arrays are views."""
    return {name: row(each, index) for name, each in column.items()} if type(column) is dict else column[index]
