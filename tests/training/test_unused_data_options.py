"""Options of the data that have no effect are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aipcore.errors import ParamsError
from aipcore.scenario import Scenario, Stream

X = np.ones((8, 2), np.float32)


def stream() -> Stream:
    """Return samples in their own order."""
    return Stream(lambda: zip(X, X, strict=True), length=8)


class Arrays(Scenario):
    """Arrays without validation data."""

    def train_data(self) -> Any:
        """Return arrays."""
        return X, X


class Streams(Scenario):
    """Streams for training and validation."""

    def train_data(self) -> Any:
        """Return a stream."""
        return stream()

    def val_data(self) -> Any:
        """Return a stream."""
        return stream()


@pytest.mark.parametrize(
    ("cls", "option", "value"),
    [
        (Arrays, "--train.shuffle_buffer", "4"),
        (Arrays, "--train.adapt_samples", "4"),
        (Arrays, "--val.limit", "4"),
        (Streams, "--train.preload", "on"),
        (Streams, "--val.preload", "on"),
        (Streams, "--val.bucket_window", "4"),
    ],
)
def test_options_without_effect(make_trainer: Any, cls: type[Scenario], option: str, value: str) -> None:
    """The sentence names the data and the option, before a model is built."""
    with pytest.raises(ParamsError, match=f"{option} has no effect"):
        make_trainer(cls, option, value)
