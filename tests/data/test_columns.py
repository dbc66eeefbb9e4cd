"""Columns that grow sample by sample, against NumPy's stacking of all samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aipcore.data.columns import GrowingColumn, GrowingSide
from aipcore.errors import DataError


def grown(values: list[Any]) -> Any:
    """Return the column of some values."""
    column = GrowingColumn("", "the data: inputs")
    for index, value in enumerate(values):
        column.add(value, index)
    return column.finished()


@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (40, 50)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int64", "bool", "float16"])
@pytest.mark.parametrize("count", [1, 2, 700])
def test_equals_stacking(shape: tuple[int, ...], dtype: str, count: int) -> None:
    """Columns of any number, shape and dtype equal stacked ones, except that 64-bit numbers become float32."""
    generator = np.random.default_rng(0)
    values = [(generator.normal(size=shape) * 50).astype(dtype) for _ in range(count)]
    wanted = np.stack(values)
    wanted = wanted.astype(np.float32) if dtype == "float64" else wanted
    found = grown(values)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("kinds", [("uint8", "int32"), ("int32", "float32"), ("float32", "float64"), ("bool", "int8"),
                                   ("float64", "float16"), ("float16", "float32")])  # fmt: skip
@pytest.mark.parametrize("where", [1, 30])
def test_types_widen_on_the_way(kinds: tuple[str, str], where: int) -> None:
    """A sample of another dtype promotes the column to a common one, at any position."""
    values = [np.full(3, n % 2, kinds[n >= where]) for n in range(60)]
    dtype = np.result_type(*kinds)
    found = grown(values)
    assert found.dtype == (np.float32 if dtype == np.float64 else dtype)
    np.testing.assert_array_equal(found, np.stack(values))


@pytest.mark.parametrize("where", [1, 30])
def test_another_shape_makes_a_list(where: int) -> None:
    """A sample of another shape at any position turns the column into a list of unchanged samples."""
    values = [np.full(3 + (n == where), n, np.float64) for n in range(60)]
    found = grown(values)
    assert isinstance(found, list)
    assert all(row.dtype == np.float32 for row in found)
    for row, value in zip(found, values, strict=True):
        np.testing.assert_array_equal(row, value)


@pytest.mark.parametrize(
    "values",
    [
        [np.zeros(2), np.zeros((2, 2))],
        [np.zeros(2), "text"],
        [{"a": 1}, {"a": 1}, {"b": 1}],
        [None, np.zeros(2)],
        [np.zeros(2), None],
        [object()],
    ],
)
def test_unfit(values: list[Any], refused: Any) -> None:
    """The unfit sample is named."""
    side = GrowingSide("d")
    *good, bad = enumerate(values)
    for index, value in good:
        side.add(value, index)
    with refused(DataError):
        side.add(bad[1], bad[0])


def test_nothing() -> None:
    """A side without values, or without samples, has no columns."""
    side = GrowingSide("d")
    assert side.fields().columns == {}
    side.add(None, 0)
    side.add(None, 1)
    assert (side.fields().columns, side.fields().bare) == ({}, False)
