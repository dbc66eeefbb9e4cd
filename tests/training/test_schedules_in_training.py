"""Schedules in a run: the rate of each optimizer update is the schedule's value at that update."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from aipcore.scenario import Scenario


class Slope(Scenario):
    """A scenario with 10 samples and a gradient of 1: SGD moves the weight by the learning rate."""

    def train_data(self) -> Any:
        return np.ones((10, 1), np.float32), np.zeros((10, 1), np.float32)

    def build(self, inputs: Any) -> Any:
        return keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")(inputs)

    def losses(self) -> Any:
        return lambda target, output: keras.ops.sum(output, -1)


def moved(make_trainer: Any, *words: str) -> tuple[float, Any]:
    """Return the sum of the rates of all updates, and the trainer."""
    trainer = make_trainer(Slope, "--optimizer", "SGD", "--train.batch_size", "2", "--learning_rate.lr", "0.1", *words)
    trainer.fit()
    return -float(trainer.model.get_weights()[0][0, 0]), trainer


def halving(times: Any) -> float:
    """Return the sum of 0.1 * 0.5^t over times in epochs, with negative times as 0."""
    return float(np.sum(0.1 * 0.5 ** np.maximum(0.0, np.asarray(times))))


HALF = ("--learning_rate", "ExponentialDecay", "--learning_rate.decay", "0.5")


@pytest.mark.parametrize("jit", ["off", "on"])
def test_counts_updates(make_trainer: Any, jit: str) -> None:
    """Each of the 5 updates per epoch has the rate of its time, for any number of steps per call."""
    total, trainer = moved(make_trainer, *HALF, "--trainer.epochs", "3", "--trainer.jit_compile", jit)
    assert total == pytest.approx(halving(np.arange(15) / 5), rel=1e-5)
    assert int(trainer.engine.optimizer.iterations) == 15


@pytest.mark.parametrize(("steps", "updates"), [(2, 3), (5, 1), (7, 1)])
def test_counts_updates_not_batches(make_trainer: Any, steps: int, updates: int) -> None:
    """Under accumulation, an epoch has as many updates as groups, including the partial one."""
    total, trainer = moved(make_trainer, *HALF, "--trainer.epochs", "2", "--trainer.accumulate_steps", str(steps))
    assert trainer.data.horizon.updates_per_epoch == updates
    assert total == pytest.approx(halving(np.arange(2 * updates) / updates), rel=1e-5)


@pytest.mark.parametrize("offset", [0.4, 1, 2.5])
def test_offset_epochs(make_trainer: Any, offset: float) -> None:
    """The schedule starts after the given epochs, in whole updates, and keeps its initial value until then."""
    words = ("--learning_rate.offset_epochs", str(offset), "--trainer.epochs", "3")
    total, _ = moved(make_trainer, *HALF, *words)
    assert total == pytest.approx(halving((np.arange(15) - round(5 * offset)) / 5), rel=1e-5)


def test_a_cosine_ends_with_the_run(make_trainer: Any) -> None:
    """The logged rate of an epoch is that of the last of its 5 updates; the rate after the run would be 0."""
    _, trainer = moved(make_trainer, "--learning_rate", "CosineDecay", "--trainer.epochs", "4")
    rates = [logs["learning_rate"] for logs in trainer.state.history]
    np.testing.assert_allclose(rates, [0.1 * (1 + np.cos(np.pi * n / 20)) / 2 for n in (4, 9, 14, 19)], atol=1e-8)
    assert float(trainer.engine.optimizer.learning_rate) == 0


class Rates(keras.callbacks.Callback):
    """A callback that records the optimizer's learning rate before each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.rates.append(float(self.model.optimizer.learning_rate))


@pytest.mark.parametrize("words", [("--learning_rate.staircase", "True"), ("--trainer.accumulate_steps", "5")])
def test_the_logged_rate_is_that_of_the_trained_epoch(make_trainer: Any, words: tuple[str, ...]) -> None:
    """Each epoch logs the rate that the optimizer had for its last update, also if a callback has changed the rate."""
    words = ("--train.batch_size", "2", *HALF, "--trainer.epochs", "3", "--trainer.force_eager", "True", *words)
    trainer = make_trainer(Slope, *words)
    seen = trainer.callbacks["rates"] = Rates()
    trainer.callbacks["lower"] = keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=1e9, factor=0.3)
    trainer.fit()
    logged = [logs["learning_rate"] for logs in trainer.state.history]
    np.testing.assert_array_equal(logged, seen.rates[4::5])
    assert logged[0] > logged[1] > logged[2]


def test_epochs_of_the_run_count(make_trainer: Any) -> None:
    """With samples_per_epoch, an epoch has fewer updates, and the schedule still counts epochs."""
    total, _ = moved(make_trainer, *HALF, "--trainer.epochs", "3", "--trainer.samples_per_epoch", "4")
    assert total == pytest.approx(halving(np.arange(6) / 2), rel=1e-5)
