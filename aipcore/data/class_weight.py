"""Class weights: the weight of a sample by its class, as in Keras' `class_weight`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import numpy.typing as npt

from aipcore.data.dataset import Dataset
from aipcore.data.params import BALANCED, MOST_CLASSES, TrainDataParams, parse_class_weight
from aipcore.data.sampler import Visits
from aipcore.errors import DataError

Array = npt.NDArray[Any]
Table = npt.NDArray[np.float32]
"""The weight of each class, indexed by class. Other classes weigh 1."""

PIECE = 1024
"""Samples whose targets are read in one go."""

SUM_TOLERANCE = 1e-3
"""Largest distance of a row's sum from 1 at which the row counts as a distribution over classes."""


def weight_table(params: TrainDataParams, dataset: Dataset, origin: str) -> Table | None:
    """Return the weight of each class, or None if `params` has none.

    `balanced` reads all samples once. Explicit weights are checked on the samples in memory.

    Args:
        params: the parameters with `class_weight`.
        dataset: the processed training samples.
        origin: the name of the data in errors.

    Raises:
        DataError: the samples already have weights, or their targets are not one class each.
    """
    if params.class_weight is None:
        return None
    name, classes = _target(dataset, origin)
    if params.class_weight == (BALANCED,):
        return balanced(_counts(dataset, name, origin))
    given = parse_class_weight(params.class_weight)
    if classes is not None and max(given) >= classes:
        raise DataError(
            f"--train.class_weight names the class {max(given)}, but the targets of {origin} have the classes 0 to "
            f"{classes - 1}. Leave the class out."
        )
    known = dataset.known()
    for first, targets in _pieces(known, name):
        _check(targets, first, origin)
    table = np.ones(max(given) + 1, np.float32)
    table[list(given)] = list(given.values())
    return table


def balanced(counts: npt.NDArray[np.int64]) -> Table:
    """Return weights that give all present classes the same total weight.

    The weight of a class is `samples / (classes * samples of the class)`, as in scikit-learn's
    `compute_class_weight("balanced")`. A class without samples weighs 1.

    Args:
        counts: number of samples per class, shape [classes].
    """
    there = counts > 0
    weights = np.ones(len(counts))
    weights[there] = counts.sum() / (there.sum() * counts[there])
    return weights.astype(np.float32)


def class_ids(targets: Array) -> npt.NDArray[np.int64]:
    """Return the class of each sample, by the same rule as Keras' `class_weight`.

    Args:
        targets: class indices of shape [samples] or [samples, 1], rounded; or scores of shape [samples, classes], whose
            largest score is the class.
    """
    if targets.ndim > 1:
        targets = targets[..., 0] if targets.shape[-1] == 1 else np.argmax(targets, axis=-1)
    return np.round(targets).astype(np.int64)


def _target(dataset: Dataset, origin: str) -> tuple[str, int | None]:
    """Return the name of the only target, and its number of classes if it is a row of scores."""
    _, targets, weights = dataset.specs()
    if weights:
        raise DataError(
            f"The samples of {origin} have weights, so --train.class_weight cannot be used. Leave the option out, or "
            "let a processor remove the weights."
        )
    if len(targets) != 1:
        names = ", ".join(repr(name) for name in targets) or "none"
        raise DataError(
            f"--train.class_weight needs exactly one target, but {origin} has {names}. Give the samples a weight "
            "instead."
        )
    ((name, spec),) = targets.items()
    if len(spec.shape) > 1 or None in spec.shape:
        raise DataError(
            f"--train.class_weight needs one class for each sample, but the targets of {origin} have shape "
            f"{spec.shape}. Give the samples weights for each position instead."
        )
    if not spec.dtype.startswith(("bool", "int", "uint", "float")):
        raise DataError(
            f"--train.class_weight needs class indices, but the targets of {origin} are of type {spec.dtype}. Turn "
            "them into numbers in a processor."
        )
    return name, spec.shape[0] if spec.shape and spec.shape[0] != 1 else None


def _check(targets: Array, first: int, origin: str) -> None:
    """Raise an error for targets that are not classes; `first` is the index of the first sample."""
    if targets.ndim > 1 and targets.shape[-1] != 1:
        bad = (targets < 0).any(axis=1) | (np.abs(targets.sum(axis=1, dtype=np.float64) - 1) > SUM_TOLERANCE)
    else:
        targets = targets.reshape(len(targets))
        bad = targets != np.round(targets) if targets.dtype.kind == "f" else np.zeros(len(targets), bool)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"--train.class_weight needs class indices or one-hot rows, but the target of sample {first + row} of "
            f"{origin} is {np.array2string(targets[row], threshold=8)}. Give the samples a weight instead."
        )


def _counts(dataset: Dataset, name: str, origin: str) -> npt.NDArray[np.int64]:
    counts = np.zeros(0, np.int64)
    for first, targets in _pieces(dataset, name):
        _check(targets, first, origin)
        ids = class_ids(targets)
        wrong = (ids < 0) | (ids >= MOST_CLASSES)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(
                f"--train.class_weight balanced cannot count the class {ids[row]} of sample {first + row} of {origin}. "
                f"Number the classes from 0 to at most {MOST_CLASSES - 1:,}."
            )
        found = np.bincount(ids, minlength=len(counts))
        found[: len(counts)] += counts
        counts = found
    return counts


def _pieces(dataset: Dataset, name: str) -> Iterator[tuple[int, Array]]:
    """Yield the targets block by block, each sample on its first visit, with the index of the first sample."""
    own = getattr(dataset, "batch_size", None) or 1
    size = max(1, PIECE // own) * own
    starts = range(0, len(dataset), size)
    known = dataset.known()
    if known is dataset and isinstance(column := known.targets.columns[name], np.ndarray):
        for start in starts:
            yield start, column[start : start + size]
        return
    pieces = (np.arange(start, min(start + size, len(dataset))) for start in starts)
    visits = (Visits(indices=indices, epochs=np.zeros_like(indices)) for indices in pieces)
    with closing(dataset.batches(visits)) as batches:
        for start, each in zip(starts, batches, strict=True):
            yield start, each.targets[name]
