"""From what a scenario returns as its data to a data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from aipcore.data.dataset import ArrayDataset, Dataset, Fields, SampleDataset
from aipcore.data.samples import Sample
from aipcore.errors import DataError

Array = npt.NDArray[Any]


def as_dataset(data: Any, origin: str) -> Dataset:
    """Turns what a scenario returned into a data set.

    Args:
        data: a `Dataset`; a pair `(inputs, targets)` of stacked arrays (or mappings of them), the first axis counting
            samples; or an iterable of `Sample`.
        origin: how errors call the data, e.g. "Tutorial.train_data()".

    Raises:
        DataError: `data` is none of these, is empty, or its arrays have different lengths.
    """
    if isinstance(data, ArrayDataset | SampleDataset):
        dataset: Dataset = data
    elif isinstance(data, tuple) and len(data) == 2:
        dataset = ArrayDataset(inputs=stacked(data[0], origin), targets=stacked(data[1], origin))
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes | np.ndarray | Mapping):
        dataset = _from_samples(data, origin)
    else:
        raise DataError(
            f"{origin} returned {type(data).__name__}: return a pair (inputs, targets) of arrays whose first axis "
            "counts the samples, or an iterable of Sample."
        )
    lengths = {f"inputs[{k!r}]": len(v) for k, v in dataset.inputs.columns.items()}
    lengths |= {f"targets[{k!r}]": len(v) for k, v in dataset.targets.columns.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"{origin} returned arrays of different lengths ({counts}): give each one entry per sample.")
    if len(dataset) == 0:
        raise DataError(f"{origin} returned no samples: check the data parameters and the files they name.")
    return dataset


def stacked(tree: Any, origin: str) -> Fields:
    """The columns of stacked arrays; a bare array becomes a single column without a name."""
    if tree is None:
        return Fields(columns={}, bare=False)
    if isinstance(tree, Mapping):
        return Fields(
            columns={str(key): _array(value, f"{origin}: {key!r}") for key, value in tree.items()}, bare=False
        )
    return Fields(columns={"": _array(tree, origin)}, bare=True)


def _array(value: Any, origin: str) -> Array:
    array = np.asarray(value)
    if array.dtype == object:
        raise DataError(
            f"{origin} holds Python objects or arrays of different shapes, which cannot be stacked: "
            "yield Sample objects instead, which are padded batch by batch."
        )
    if array.ndim == 0:
        raise DataError(f"{origin} is a single number: the first axis must count the samples.")
    return np.asarray(array, dtype=np.float32) if array.dtype == np.float64 else array


def _from_samples(data: Iterable[Any], origin: str) -> Dataset:
    samples = list(data)
    for index, sample in enumerate(samples):
        if not isinstance(sample, Sample):
            raise DataError(f"{origin} yielded {type(sample).__name__} at position {index}: yield Sample objects.")
    columns: list[Fields] = []
    for part in ("inputs", "targets"):
        values = [getattr(sample, part) for sample in samples]
        columns.append(_columns(values, f"{origin}: {part}"))
    meta = [sample.meta for sample in samples]
    inputs, targets = columns
    ragged = any(isinstance(column, list) for fields in columns for column in fields.columns.values())
    kind = SampleDataset if ragged else ArrayDataset
    return kind(inputs=inputs, targets=targets, meta=meta if any(m is not None for m in meta) else None)


def _columns(values: list[Any], origin: str) -> Fields:
    if not values or all(value is None for value in values):
        return Fields(columns={}, bare=False)
    bare = not isinstance(values[0], Mapping)
    rows = [{"": value} if bare else dict(value) for value in values]
    names = list(rows[0])
    for index, row in enumerate(rows):
        if list(row) != names:
            raise DataError(
                f"{origin} of sample {index} has the names {sorted(row)}, but sample 0 has {sorted(names)}."
            )
    return Fields(columns={name: _column([row[name] for row in rows], name, origin) for name in names}, bare=bare)


def _column(values: list[Any], name: str, origin: str) -> Any:
    arrays = [np.asarray(value) for value in values]
    first = arrays[0]
    for index, array in enumerate(arrays):
        if array.ndim != first.ndim or array.dtype == object:
            raise DataError(
                f"{origin}{f'[{name!r}]' if name else ''} of sample {index} has shape {array.shape} and type "
                f"{array.dtype}, but sample 0 has shape {first.shape} and type {first.dtype}: "
                "the number of axes must be the same and the type numeric."
            )
    if all(array.dtype == np.float64 for array in arrays):
        arrays = [array.astype(np.float32) for array in arrays]
    if all(array.shape == first.shape for array in arrays):
        return np.stack(arrays)
    return arrays
