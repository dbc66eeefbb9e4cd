"""Sizes that batches of samples of varying size are padded to, so that XLA compiles the loop for only a few shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from aipcore.data.dataset import Columns, Padding
from aipcore.data.sample import Specs
from aipcore.data.strings import OBJECT

Size = tuple[int, ...]
"""The lengths of a batch along all varying axes of its columns, in the order of `varying_axes`."""

ENOUGH = 0.1
"""Share of additional elements below which more sizes are not worth their compilation."""


def as_sizes(given: Iterable[Iterable[Any]]) -> tuple[Size, ...]:
    """Return sizes from nested lists, as in JSON."""
    return tuple(tuple(int(length) for length in size) for size in given)


def varying_axes(specs: Specs) -> list[tuple[int, str, int]]:
    """Return the side, the column and the axis of a sample for each axis whose length varies."""
    return [
        (side, name, axis)
        for side, columns in enumerate(specs)
        for name, spec in columns.items()
        for axis, length in enumerate(spec.shape)
        if length is None
    ]


def size_of(sides: Sequence[Columns], specs: Specs) -> Size:
    """Return the size of a block of batches; see `Block`."""
    return tuple(sides[side][name].shape[2 + axis] for side, name, axis in varying_axes(specs))


def elements_of(specs: Specs) -> Callable[[Size], int]:
    """Return a function from a size to the number of elements of one sample in a batch of this size."""
    axes = varying_axes(specs)

    def elements(size: Size) -> int:
        lengths = dict(zip(axes, size, strict=True))
        return sum(
            math.prod(lengths.get((side, name, axis), length) or 0 for axis, length in enumerate(spec.shape))
            for side, columns in enumerate(specs)
            for name, spec in columns.items()
        )

    return elements


def choose_sizes(seen: Iterable[Size], elements: Callable[[Size], int], most: int) -> tuple[Size, ...]:
    """Return sizes for batches of given sizes, in ascending order of their elements.

    The batches are sorted by their elements and divided into groups. Each group is padded to the largest lengths in it.
    The division has the fewest elements in total, and the fewest groups that `ENOUGH` allows.

    Args:
        seen: the sizes of some batches.
        elements: see `elements_of`.
        most: the maximum number of sizes.
    """
    ordered = sorted(seen, key=lambda size: (elements(size), size))
    groups: dict[tuple[int, int], tuple[int, Size]] = {}
    for start in range(len(ordered)):
        largest = ordered[start]
        for end in range(start + 1, len(ordered) + 1):
            largest = tuple(map(max, largest, ordered[end - 1]))
            groups[start, end] = (end - start) * elements(largest), largest
    enough = (1 + ENOUGH) * sum(map(elements, ordered))
    # The fewest elements for the first batches, and their sizes, by the number of batches.
    best: dict[int, tuple[int, tuple[Size, ...]]] = {0: (0, ())}
    for _ in range(most):
        best = {
            end: min(
                (best[start][0] + groups[start, end][0], (*best[start][1], groups[start, end][1]))
                for start in best
                if start < end
            )
            for end in range(1 + min(best), len(ordered) + 1)
        }
        if best[len(ordered)][0] <= enough or len(best) == 1:
            break
    return tuple(sorted(set(best[len(ordered)][1]), key=lambda size: (elements(size), size)))


def fitting_size(sizes: Iterable[Size], size: Size) -> Size | None:
    """Return the first size that is large enough for a batch, or None."""
    for each in sizes:
        if len(each) == len(size) and all(length <= room for length, room in zip(size, each, strict=True)):
            return each
    return None


def pad_to(sides: Sequence[Columns], specs: Specs, size: Size, padding: Padding) -> tuple[Columns, Columns, Columns]:
    """Return the columns of a block padded to a size at the end of their axes.

    Args:
        sides: the inputs, the targets and the weights of a block; see `Block`.
        specs: the specs of the samples.
        size: the size, at least that of the block.
        padding: see `MemoryDataset`.
    """
    made = [dict(columns) for columns in sides]
    widths: dict[tuple[int, str], list[tuple[int, int]]] = {}
    for (side, name, axis), length in zip(varying_axes(specs), size, strict=True):
        column = sides[side][name]
        of_column = widths.setdefault((side, name), [(0, 0)] * column.ndim)
        of_column[2 + axis] = (0, length - column.shape[2 + axis])
    for (side, name), each in widths.items():
        values: Mapping[str, Any] = padding[side]
        column, value = sides[side][name], values.get(name, 0)
        if column.dtype == OBJECT and not isinstance(value, str | bytes):
            value = ""
        made[side][name] = np.pad(column, each, constant_values=value)
    return made[0], made[1], made[2]


def describe_sizes(sizes: Iterable[Size]) -> str:
    """Return sizes in words, such as "24, 40" or "24x8, 40x12"."""
    return ", ".join("x".join(map(str, size)) for size in sizes)
