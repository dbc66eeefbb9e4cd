"""Callbacks: the order and meaning of Keras, and the built-in plugins."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from aipcore.errors import ScenarioError
from aipcore.hooks.manager import get_plugin_manager
from aipcore.training.components import make_parts
from aipcore.training.monitor import Monitor, make_monitor
from aipcore.training.setup import RunComponents


class Recorder(keras.callbacks.Callback):
    """A callback that records every call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.calls.append("train begin")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.calls.append(f"epoch {epoch} begin")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        assert logs is not None
        assert np.isfinite(logs["loss"])
        self.calls.append(f"batch {batch}")

    def on_test_begin(self, logs: Any = None) -> None:
        self.calls.append("test begin")

    def on_test_end(self, logs: Any = None) -> None:
        self.calls.append("test end")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        assert logs is not None
        self.calls.append(f"epoch {epoch} end {sorted(logs)}")

    def on_train_end(self, logs: Any = None) -> None:
        self.calls.append("train end")


class ChunkRecorder(Recorder):
    """A recorder that accepts only the last batch of each chunk."""

    accepts_chunks = True


def parts_with(trainer_params: Any, **callbacks: Any) -> RunComponents:
    """Return the usual parts with these callbacks."""
    parts = make_parts(trainer_params, get_plugin_manager())
    made = {name: (lambda _, callback=callback: callback) for name, callback in callbacks.items()}
    return RunComponents(schedule=parts.schedule, optimizer=parts.optimizer, callbacks=made)


def run_with(make_trainer: Any, cls: Any, callback: Any, *words: str) -> Any:
    """Train with one callback object; return the trainer and the result."""
    params = make_trainer(cls, *words).params.trainer
    trainer = make_trainer(cls, *words, parts=parts_with(params, it=callback))
    return trainer, trainer.fit()


def test_order_equals_keras(make_trainer: Any, blobs_class: Any) -> None:
    """A callback with batch methods is called for every batch, in the same order as by Model.fit."""
    ours = Recorder()
    run_with(make_trainer, blobs_class, ours, "--train.batch_size", "64")
    theirs = Recorder()
    scenario = blobs_class(None)
    inputs = keras.Input((12,))
    model = keras.Model(inputs, scenario.build(inputs))
    model.compile("adam", scenario.losses(), metrics=scenario.metrics())
    model.fit(
        *scenario.train_data(), batch_size=64, epochs=2, verbose=0, callbacks=[theirs],
        validation_data=scenario.val_data(),
    )  # fmt: skip
    assert [call.replace(", 'learning_rate'", "") for call in ours.calls] == theirs.calls


def test_chunks_for_those_who_accept_them(make_trainer: Any, blobs_class: Any) -> None:
    """A callback that accepts chunks does not slow the loop down to single batches."""
    callback = ChunkRecorder()
    trainer, _ = run_with(make_trainer, blobs_class, callback, "--train.batch_size", "20", "--trainer.epochs", "1")
    assert trainer._chunks.chunk > 1
    batches = [call for call in callback.calls if call.startswith("batch")]
    assert len(batches) < 10
    assert batches[-1] == "batch 9"


def test_keras_early_stopping_works(make_trainer: Any, blobs_class: Any) -> None:
    """Keras' EarlyStopping stops the run through model.stop_training."""
    stop = keras.callbacks.EarlyStopping(monitor="loss", min_delta=100.0, patience=2)
    trainer, result = run_with(make_trainer, blobs_class, stop, "--trainer.epochs", "50")
    assert (result.status, result.epochs) == ("stopped", 3)
    assert trainer.state.stopped == "The callback it stopped the run"


def test_observer_changes_nothing(make_trainer: Any, noisy_class: Any) -> None:
    """A run with a callback that only observes is bit-identical to one without."""
    alone = make_trainer(noisy_class)
    alone.fit()
    watched, _ = run_with(make_trainer, noisy_class, Recorder())
    for first, second in zip(alone.model.get_weights(), watched.model.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_csv_log(make_trainer: Any, blobs_class: Any) -> None:
    """Every value of every epoch has a column, which is empty in epochs without validation."""
    trainer = make_trainer(
        blobs_class, "--trainer.epochs", "4", "--trainer.val_every_n", "2", "--callbacks", "csv_log",
        "--callbacks.csv_log.file", "values.csv", output="out",
    )  # fmt: skip
    history = trainer.fit().history
    with (trainer.output_dir / "values.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["val_loss"] == "" for row in rows] == [True, False, True, False]
    for row, logs in zip(rows, history, strict=True):
        for name, value in logs.items():
            assert float(row[name]) == value


def test_reduce_on_plateau(make_trainer: Any, blobs_class: Any) -> None:
    """After `patience` epochs without improvement, the scheduled rate is halved, down to the least scale."""
    trainer = make_trainer(
        blobs_class, "--trainer.epochs", "8", "--learning_rate", "Constant", "--learning_rate.lr", "0.001",
        "--callbacks", "ReduceOnPlateau", "--callbacks.ReduceOnPlateau.patience", "2",
        "--callbacks.ReduceOnPlateau.min_delta", "10", "--callbacks.ReduceOnPlateau.min_scale", "0.2",
        "--callbacks.ReduceOnPlateau.cooldown", "1",
    )  # fmt: skip
    rates = [logs["learning_rate"] / 0.001 for logs in trainer.fit().history]
    np.testing.assert_allclose(rates, [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25], rtol=1e-6)


class Diverging(keras.initializers.Initializer):
    """A scenario whose weights are so large that the loss overflows."""

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        return keras.ops.full(shape, 1e38, dtype)


def test_terminate_on_nan(make_trainer: Any, blobs_class: Any, tmp_path: Path) -> None:
    """The run ends in the epoch in which the loss is not finite, and the broken state is not saved."""

    class Overflowing(blobs_class):  # type: ignore[misc]
        def build(self, inputs: Any) -> Any:
            return keras.layers.Dense(4, kernel_initializer=Diverging())(inputs)

        def losses(self) -> Any:
            return lambda target, output: keras.ops.sum(keras.ops.square(output), -1)

    words = ("--trainer.epochs", "9", "--callbacks", "TerminateOnNaN", "--trainer.skip_sanity_check")
    trainer = make_trainer(Overflowing, *words, output="out")
    result = trainer.fit()
    assert (result.status, result.epochs) == ("stopped", 1)
    assert trainer.state.stopped == "The callback TerminateOnNaN stopped the run"
    assert result.saved == ["checkpoint"]
    assert [path.name for path in (tmp_path / "out" / "checkpoint").iterdir()] == ["step-0000000000"]


def test_monitor() -> None:
    """Only strictly better values count, NaN and missing values do not, and the state can be restored."""
    monitor = Monitor(mode="min", name="val_loss")
    values = [float("nan"), 2.0, 2.0, 1.0, 3.0]
    assert [monitor.update(epoch, {"val_loss": value}) for epoch, value in enumerate(values, 1)] == [
        False, True, False, True, False,
    ]  # fmt: skip
    assert not monitor.update(6, {"loss": 0.0})
    assert (monitor.best, monitor.best_epoch) == (1.0, 4)
    again = Monitor(mode="min", name="val_loss")
    again.restore(monitor.state())
    assert not again.update(7, {"val_loss": 1.5})
    assert Monitor(mode="max", name="a", best=1.0).is_better(1.1)


@pytest.mark.parametrize("given", [("up", "loss"), "loss", ("min", "F1")])
def test_wrong_monitor_is_named(given: Any, refused: Any) -> None:
    """An unknown direction or name is an error before training."""
    with refused(ScenarioError):
        make_monitor(given, "Mine", ["loss", "accuracy"], validates=True)
