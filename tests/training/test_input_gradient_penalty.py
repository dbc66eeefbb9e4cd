"""The penalty on gradients of the loss with respect to the inputs, against its closed form for a linear model."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from aipcore.errors import ParamsError
from aipcore.scenario import Scenario

X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
Y = X.sum(1, keepdims=True) + 1
FACTOR, RATE = 0.3, 0.05
WORDS = (
    "--optimizer", "SGD", "--learning_rate", "Constant", "--learning_rate.lr", str(RATE), "--train.shuffle", "false",
    "--trainer.epochs", "1", "--trainer.input_gradient_penalty", str(FACTOR),
)  # fmt: skip


class Linear(Scenario):
    """A linear model with squared error."""

    def train_data(self) -> Any:
        return X, Y

    def build(self, inputs: Any) -> Any:
        return keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(0.5))(inputs)

    def losses(self) -> Any:
        return "mse"


@pytest.mark.parametrize(("batch", "group"), [(12, 1), (5, 3)])
def test_equals_the_closed_form(make_trainer: Any, batch: int, group: int) -> None:
    """With r = wx + b - y, a sample adds r^2 + f |2rw|^2. Groups of batches equal the large batch."""
    words = ("--train.batch_size", str(batch), "--trainer.accumulate_steps", str(group))
    trainer = make_trainer(Linear, *WORDS, *words)
    loss = trainer.fit().history[0]["loss"]
    kernel, bias = np.full((3, 1), 0.5), 0.0
    error = X @ kernel + bias - Y
    size = (kernel**2).sum()
    assert loss == pytest.approx(float((error**2 + FACTOR * 4 * error**2 * size).mean()), rel=1e-6)
    scale = 2 * error + FACTOR * 8 * error * size
    expected = kernel - RATE * ((scale * X).mean(0)[:, None] + FACTOR * 8 * (error**2).mean() * kernel)
    ours, ours_bias = trainer.model.get_weights()
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    np.testing.assert_allclose(ours_bias, [bias - RATE * scale.mean()], rtol=1e-5)


def test_needs_an_input_with_gradients(make_trainer: Any, refused: Any) -> None:
    """Inputs of class ids alone have no gradients and are refused."""

    class Ids(Linear):
        def train_data(self) -> Any:
            return np.arange(4, dtype="int32"), Y[:4]

        def build(self, inputs: Any) -> Any:
            return keras.layers.Dense(1)(keras.layers.Embedding(4, 2)(inputs))

    with refused(ParamsError):
        make_trainer(Ids, *WORDS)
