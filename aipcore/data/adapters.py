"""Adapters from what a scenario returns as its data to datasets in memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.columns import GrowingSide, as_array
from aipcore.data.dataset import ArrayDataset, Fields, Padding, SampleDataset
from aipcore.data.sample import SIDES, ColumnSpec, DeclaredSpecs, Sample, Specs, present
from aipcore.data.sources import as_samples, is_arrays
from aipcore.errors import DataError

Array = npt.NDArray[Any]


MemoryDataset = ArrayDataset | SampleDataset


def as_dataset(data: Any, origin: str, *, weighted: bool = True) -> MemoryDataset:
    """Turns what a scenario returned into a data set in memory, unprocessed.

    Args:
        data: a data set; a tuple `(inputs, targets)` or `(inputs, targets, weights)` of stacked arrays (or mappings of
            them), the first axis counting samples; or samples (see `as_source`).
        origin: how errors call the data, e.g. "Tutorial.train_data()".
        weighted: whether to keep the weights.

    Raises:
        DataError: `data` is none of these, is empty, or its arrays have different lengths.
    """
    if isinstance(data, ArrayDataset | SampleDataset):
        dataset: MemoryDataset = data if weighted else attrs.evolve(data, weights=Fields(columns={}, bare=False))
    elif is_arrays(data):
        dataset = ArrayDataset(
            inputs=stacked(data[0], origin),
            targets=stacked(data[1], origin),
            weights=_stacked_weights(data[2] if weighted and len(data) == 3 else None, f"{origin}: weights"),
        )
    else:
        dataset = from_samples(as_samples(data, origin), origin, weighted=weighted)
    lengths = {f"inputs[{k!r}]": len(v) for k, v in dataset.inputs.columns.items()}
    lengths |= {f"targets[{k!r}]": len(v) for k, v in dataset.targets.columns.items()}
    lengths |= {f"weights[{k!r}]": len(v) for k, v in dataset.weights.columns.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"{origin} returned arrays of different lengths ({counts}): give each one entry per sample.")
    if len(dataset) == 0:
        raise no_samples(origin)
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


def _stacked_weights(tree: Any, origin: str) -> Fields:
    fields = stacked(present(tree), origin)
    columns = {name: _numbers(column, f"An array of {origin}") for name, column in fields.columns.items()}
    return attrs.evolve(fields, columns=columns)


def _numbers(weight: Any, origin: str) -> Array:
    """A weight as an array of float32."""
    array = as_array(weight, origin)
    # bfloat16 is not a kind of float to NumPy.
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise DataError(f"{origin} is of type {array.dtype}, not a number. Give a number or an array of numbers.")
    return array.astype(np.float32, copy=False)


def _array(value: Any, origin: str) -> Array:
    array = as_array(value, origin)
    if array.dtype == object:
        raise DataError(
            f"{origin} holds Python objects or arrays of different shapes, which cannot be stacked: "
            "yield Sample objects instead, which are padded batch by batch."
        )
    if array.ndim == 0:
        raise DataError(f"{origin} is a single number: the first axis must count the samples.")
    return np.asarray(array, dtype=np.float32) if array.dtype == np.float64 else array


def from_samples(
    samples: Iterable[Sample], origin: str, indices: Iterable[int] | None = None, *, weighted: bool = True
) -> MemoryDataset:
    """Stacks samples one by one, or keeps them side by side where their shapes differ.

    Args:
        samples: the samples.
        origin: how errors call them.
        indices: how errors number them; by default from 0.
        weighted: whether to keep their weights.

    Raises:
        DataError: they do not have the same names, a column has arrays of different ranks, or some have weights.
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
                f"Sample {missing} of {origin} has no weight, but sample {there} has one. Give every sample a weight, "
                "or none."
            )
        if weight is not None:
            weights.add(_weight(weight, f"The weight of sample {index} of {origin}"), index)
    sides = inputs.fields(), targets.fields(), weights.fields()
    ragged = any(isinstance(column, list) for fields in sides for column in fields.columns.values())
    kind = SampleDataset if ragged else ArrayDataset
    meta_or_none = meta if any(m is not None for m in meta) else None
    return kind(inputs=sides[0], targets=sides[1], weights=sides[2], meta=meta_or_none)


def _weight(given: Any, origin: str) -> Any:
    """The weight of a sample in float32."""
    if isinstance(given, Mapping):
        return {str(name): _numbers(value, f"{origin} for {name!r}") for name, value in given.items()}
    return _numbers(given, origin)


def with_specs(dataset: MemoryDataset, declared: DeclaredSpecs | None, padding: Padding, origin: str) -> MemoryDataset:
    """Gives a data set the specs that its author declared, and the values that fill its batches.

    Raises:
        DataError: the specs are not those of the samples, or a value is given for a column that is not there.
    """
    if isinstance(dataset, SampleDataset):
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
                f"The {part} of {origin} are {describe(found)}, but sample_specs() declares {describe(wanted)}."
            )
    return attrs.evolve(dataset, declared=specs)


def no_samples(origin: str) -> DataError:
    """The error of empty data."""
    return DataError(f"{origin} returned no samples: check the data parameters and the files they name.")


def describe(specs: Mapping[str, ColumnSpec]) -> str:
    """Specs in words."""
    return ", ".join(f"{name or 'one array'} {spec.shape} {spec.dtype}" for name, spec in specs.items()) or "none"
