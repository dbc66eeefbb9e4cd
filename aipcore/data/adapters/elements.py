"""Elements of streams and of objects read by index, turned into samples or into rows of stacked arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from aipcore.data.adapters.arrays import Ragged, first_rows, stacked_arrays
from aipcore.data.dataset import MemoryDataset
from aipcore.data.processing import SampleError, skip_hint
from aipcore.data.sample import SIDES, Sample
from aipcore.data.strings import as_objects, nbytes_of
from aipcore.errors import AipError, DataError, located_sentence
from aipcore.params.names import count

Convert = Callable[[Any], Any]
"""The author's `Scenario.to_sample`."""

NAMES = {"inputs", "targets", "weight", "meta"}


def as_sample(element: Any, index: int, origin: str, convert: Convert | None = None) -> Sample:
    """Return an element as a sample.

    Args:
        element: a `Sample`; a tuple `(inputs,)`, `(inputs, targets)` or `(inputs, targets, weight)`; a mapping with
            the names of a sample's attributes; or anything that `convert` turns into one of these.
        index: the position of the element, for errors.
        origin: the name of the data in errors.
        convert: the author's conversion, if there is one.

    Raises:
        SampleError: `convert` failed.
        DataError: the element cannot be used.
    """
    if convert is not None:
        try:
            element = convert(element)
        except AipError:
            raise
        except Exception as error:
            raise SampleError(
                f"to_sample() failed on element {index} of {origin}: {located_sentence(error)}. "
                f"{skip_hint(error, 'Fix the element or to_sample()')}"
            ) from error
    if isinstance(element, Sample):
        return element
    if isinstance(element, tuple) and 1 <= len(element) <= 3:
        return Sample(**dict(zip(("inputs", "targets", "weight"), map(as_numpy, element), strict=False)))
    if isinstance(element, Mapping) and "inputs" in element and element.keys() <= NAMES:
        return Sample(**{name: as_numpy(value) for name, value in element.items()})
    raise _unusable(element, index, origin, converted=convert is not None)


def as_numpy(value: Any) -> Any:
    """Return a value with tensors of any library as arrays; mappings keep their names."""
    if isinstance(value, Mapping):
        return {str(name): as_numpy(each) for name, each in value.items()}
    if hasattr(value, "row_splits"):
        return _rows_of(value)
    # A tensor of TensorFlow or PyTorch.
    return value.numpy() if hasattr(value, "numpy") and hasattr(value, "shape") else value


def _rows_of(tensor: Any) -> Ragged:
    """Return the rows of a `RaggedTensor`. Those that are ragged themselves are padded with zeros."""
    if tensor.ragged_rank > 1:
        return Ragged((row.to_tensor().numpy() for row in tensor), rank=tensor.ragged_rank)
    values, splits = tensor.values.numpy(), tensor.row_splits.numpy().tolist()
    return Ragged((values[start:end] for start, end in pairwise(splits)), rank=1)


def as_shared(value: Any) -> Any:
    """Return a value as `as_numpy` does, but with arrays that share the memory of tensors, and must not be changed."""
    if isinstance(value, Mapping):
        return {str(name): as_shared(each) for name, each in value.items()}
    if hasattr(value, "numpy") and len(getattr(value, "shape", ())):
        try:
            # `numpy` of a tensor of TensorFlow copies it.
            array = np.asarray(memoryview(value))
        except (TypeError, ValueError, BufferError):
            # A ragged tensor, a type that NumPy does not have, or another library.
            return as_numpy(value)
        return as_numpy(value) if array.dtype.hasobject else array
    return as_numpy(value)


def as_rows(element: Any, origin: str, *, weighted: bool = True, shared: bool = False) -> MemoryDataset:
    """Return an element that is a batch as rows.

    Args:
        element: `inputs`, or a tuple or list `(inputs,)`, `(inputs, targets)` or `(inputs, targets, weights)`, of
            arrays or mappings of arrays with the samples along the first axis.
        origin: the name of the data in errors.
        weighted: True to keep the weights.
        shared: True if the arrays are only read, so that they may share the memory of tensors.

    Raises:
        DataError: the element cannot be used.
    """
    sides = _sides(element)
    if not 1 <= len(sides) <= 3:
        raise DataError(f"{origin} yields batches of {len(sides)} parts. Yield (inputs, targets, weights).")
    for name, side in zip(SIDES, sides, strict=False):
        if isinstance(side, tuple) and side and all(len(getattr(each, "shape", ())) for each in side):
            raise DataError(
                f"{origin} yields batches whose {name} are a tuple of {count(len(side), 'array')}. "
                "Yield a mapping from the name of each to its array."
            )
    return stacked_arrays(tuple(map(as_shared if shared else as_numpy, sides)), origin, weighted=weighted)


def batch_size(element: Any, origin: str) -> int:
    """Return the number of samples of an element that is a batch.

    Raises:
        DataError: the element has no array with an axis.
    """
    for side in _sides(element):
        for column in side.values() if isinstance(side, Mapping) else [side]:
            if hasattr(column, "row_splits"):
                return int(column.nrows())
            shape = getattr(column, "shape", None)
            if shape is not None and len(shape):
                return int(shape[0])
            if isinstance(column, list | tuple):
                return len(column)
    raise DataError(f"{origin} yields {type(element).__name__} as batches. Yield tuples of stacked arrays.")


def _sides(element: Any) -> tuple[Any, ...]:
    """Return the inputs, targets and weights of an element, as far as it has them."""
    if isinstance(element, Sample):
        return element.inputs, element.targets, element.weight
    return tuple(element) if isinstance(element, list | tuple) else (element,)


def cut(element: Any, samples: int) -> tuple[Any, ...]:
    """Return the first samples of an element that is a batch."""
    return tuple(None if side is None else first_rows(side, samples) for side in _sides(element))


def bytes_of(element: Any) -> int:
    """Return the bytes of the values of an element."""
    return sum(map(_bytes, _sides(element)))


def _bytes(side: Any) -> int:
    if isinstance(side, Mapping):
        return sum(map(_bytes, side.values()))
    return 0 if side is None else nbytes_of(as_objects(as_numpy(side)))


def same(one: Any, other: Any) -> bool:
    """Return True if two elements have the same content."""
    sides = _sides(one), _sides(other)
    return len(sides[0]) == len(sides[1]) and all(map(_same, *sides))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping):
        return (
            isinstance(other, Mapping)
            and one.keys() == other.keys()
            and all(_same(one[key], other[key]) for key in one)
        )
    a, b = np.asarray(as_numpy(one)), np.asarray(as_numpy(other))
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return a.tolist() == b.tolist() if a.dtype == object else a.tobytes() == b.tobytes()


def no_samples(origin: str, where: str = "") -> DataError:
    """Return the error for data without samples, or without any in one place."""
    there = f" {where}" if where else ""
    return DataError(f"{origin} returned no samples{there}. Check the data parameters and the files that they name.")


def _unusable(element: Any, index: int, origin: str, *, converted: bool) -> DataError:
    if converted:
        return DataError(
            f"to_sample() returned {type(element).__name__} for element {index} of {origin}. Return "
            "(inputs, targets), (inputs, targets, weight) or a Sample."
        )
    if isinstance(element, Mapping):
        names = [repr(str(name)) for name in list(element)[:6]]
        pair = ", ".join(f"element[{name}]" for name in (names + names)[:2])
        return DataError(
            f"{origin} has mappings with the keys {', '.join(names)}. Define to_sample(self, element) in the scenario, "
            f"and return (inputs, targets), e.g. ({pair})."
        )
    return DataError(
        f"{origin} yielded {type(element).__name__} at position {index}. Yield (inputs, targets), "
        "(inputs, targets, weight) or a Sample, or define to_sample(self, element) in the scenario."
    )
