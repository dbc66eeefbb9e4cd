"""Samples as stacked columns, from which each comes back exactly as it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from aipcore.data.samples import Sample


@attrs.frozen(eq=False)
class Stack:
    """Samples by index.

    Attributes:
        parts: the inputs, the targets and the weights.
        meta: of each sample, or None if there is none.
    """

    parts: tuple[Any, Any, Any]
    meta: list[Any] | None

    def __getitem__(self, index: int) -> Sample:
        inputs, targets, weight = (part.get(index) for part in self.parts)
        meta = None if self.meta is None else self.meta[index]
        return Sample(inputs=inputs, targets=targets, meta=meta, weight=weight)


def stack(samples: Sequence[Sample]) -> Stack:
    """Stacks what has one type and shape, and leaves everything else as it is."""
    meta = [sample.meta for sample in samples]
    return Stack(
        (
            _stacked([sample.inputs for sample in samples]),
            _stacked([sample.targets for sample in samples]),
            _stacked([sample.weight for sample in samples]),
        ),
        meta if any(each is not None for each in meta) else None,
    )


@attrs.frozen(eq=False)
class _Array:
    column: Any

    def get(self, index: int) -> Any:
        # The ellipsis keeps an array without axes an array.
        return self.column[index, ...]


@attrs.frozen(eq=False)
class _Scalar:
    column: Any

    def get(self, index: int) -> Any:
        return self.column[index]


@attrs.frozen(eq=False)
class _Table:
    columns: dict[Any, Any]

    def get(self, index: int) -> Any:
        return {name: column.get(index) for name, column in self.columns.items()}


@attrs.frozen(eq=False)
class _List:
    values: list[Any]

    def get(self, index: int) -> Any:
        return self.values[index]


def _stacked(values: list[Any]) -> Any:
    first = values[0]
    if any(type(value) is not type(first) for value in values):
        return _List(values)
    if type(first) is dict and all(list(value) == list(first) for value in values):
        return _Table({name: _stacked([value[name] for value in values]) for name in first})
    if type(first) is np.ndarray and first.dtype != object:
        if all(value.shape == first.shape and value.dtype == first.dtype for value in values):
            return _Array(np.stack(values))
    elif isinstance(first, np.generic):
        column = np.asarray(values)
        if type(column[0]) is type(first):
            return _Scalar(column)
    return _List(values)
