"""Types of data that a scenario may return, and the errors for others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pytest

from aipcore.data.adapters import as_dataset
from aipcore.data.sample import Sample
from aipcore.errors import DataError


def test_arrays() -> None:
    """Stacked arrays may be a pair or have names; float64 becomes float32, the dtype of the models."""
    dataset = as_dataset(({"a": np.zeros((4, 2)), "b": np.zeros(4, np.int64)}, [1, 2, 3, 4]), "x")
    inputs, targets, _ = dataset.specs()
    assert (inputs["a"].shape, inputs["a"].dtype) == ((2,), "float32")
    assert (inputs["b"].shape, inputs["b"].dtype) == ((), "int64")
    assert targets[""].shape == ()
    assert len(dataset) == 4


def test_samples_are_stacked_or_kept() -> None:
    """Samples of one shape are stacked; otherwise the varying axis has no fixed length. Meta is kept."""
    same = as_dataset([Sample(inputs=np.zeros(3), targets=1, meta=name) for name in "ab"], "x")
    assert same.uniform
    assert same.meta == ["a", "b"]
    ragged = as_dataset((Sample(inputs={"line": np.zeros((8, width))}, targets=1) for width in (4, 6)), "x")
    assert not ragged.uniform
    assert ragged.specs()[0]["line"].shape == (8, None)


@pytest.mark.parametrize(
    "data",
    [
        3,
        "text",
        [],
        (np.zeros((0, 2)), np.zeros(0)),
        (np.zeros((3, 2)), np.zeros(4)),
        (np.float32(1), np.zeros(4)),
        [np.zeros(3)],
        [Sample(inputs=np.zeros(3)), Sample(inputs=np.zeros((3, 1)))],
        [Sample(inputs={"a": 1}), Sample(inputs={"b": 1})],
        (np.array([np.zeros(1), np.zeros(2)], object), np.zeros(2)),
        (pandas.DataFrame({"age": [1, 2], "plan": ["a", "b"]}), np.zeros(2)),
        [(np.array([None]), 1)],
        ({"day": pandas.date_range("2020-01-01", periods=2)}, np.zeros(2)),
        len,
    ],
)
def test_wrong_data_is_named(data: Any, refused: Any) -> None:
    """One sentence names the returned value and the accepted ones."""
    with refused(DataError):
        as_dataset(data, "x")
