"""Columns of strings: NumPy arrays of Python objects, each a `str` or `bytes`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

STRING = "string"
"""The name of the dtype of strings in specs, as in TensorFlow and Keras."""

OBJECT = np.dtype(object)
"""The dtype of a column of strings in memory. An array of fixed width would need the width of its longest string."""


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the dtype of the arrays of a column."""
    return OBJECT if name == STRING else np.dtype(name)


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return the name of the dtype of a column."""
    return STRING if dtype == OBJECT or dtype.kind in "UST" else dtype.name


def as_objects(value: Any) -> Array:
    """Return a value as an array; strings of any kind become objects."""
    if isinstance(value, str | bytes):
        # NumPy would strip zero bytes from the end.
        array = np.empty((), object)
        array[()] = value
        return array
    if isinstance(value, list | tuple) and value and isinstance(value[0], str | bytes):
        # NumPy would need the width of the longest string for each.
        return np.asarray(value, object)
    array = np.asarray(value)
    return array.astype(object) if array.dtype.kind in "UST" else array


def holds_strings(array: Array) -> bool:
    """Return True if an array of objects holds only strings."""
    return all(isinstance(each, str | bytes) for each in array.reshape(-1))


def as_strings(value: Any) -> Array | None:
    """Return a value as an array of strings; None if it holds anything else."""
    array = as_objects(value)
    if array.size == 0:
        # An empty list has no type.
        return array.astype(object)
    return array if array.dtype == OBJECT and holds_strings(array) else None


def nbytes_of(array: Array) -> int:
    """Return the bytes of the values of an array; those of a string are about its length."""
    if array.dtype != OBJECT:
        return array.nbytes
    return array.nbytes + sum(len(each) for each in array.reshape(-1) if isinstance(each, str | bytes))


def type_of(array: Array) -> str:
    """Return the type of an array's values, for errors."""
    return (
        "string" if array.dtype.kind in "UST" or (array.dtype == OBJECT and holds_strings(array)) else array.dtype.name
    )


def length_of(value: Any) -> int:
    """Return the number of elements of a value; strings count their characters or bytes."""
    array = as_objects(value)
    return sum(map(len, array.reshape(-1))) if array.dtype == OBJECT else array.size
