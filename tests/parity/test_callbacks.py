"""The callbacks of Keras under `Model.fit` and in a run of aip: the same calls with the same logs, the same effect."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import attrs
import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from aipcore.errors import PluginError, ScenarioError, TrainingError
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Layer, resolve
from aipcore.scenario import Scenario
from aipcore.training.checkpoint import newest_checkpoint
from aipcore.training.params import run_params_class
from aipcore.training.prepare import Parts
from aipcore.training.setup import make_parts

# Keras asks TensorFlow for arrays in a way that NumPy 2 will no longer take.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

EPOCHS, BATCH, RATE = 4, 8, 0.2
HOOKS = (
    "train_begin", "train_end", "epoch_begin", "epoch_end", "train_batch_begin", "train_batch_end", "test_begin",
    "test_end", "test_batch_begin", "test_batch_end",
)  # fmt: skip
WORDS = (
    "--optimizer", "SGD", "--learning_rate", "Constant", "--learning_rate.lr", str(RATE), "--train.shuffle", "false",
    "--train.batch_size", str(BATCH), "--trainer.tune", "off", "--trainer.skip_sanity_check", "--trainer.force_eager",
)  # fmt: skip

Factory = Callable[[Path], Any]


def points(samples: int, seed: int) -> tuple[Any, Any]:
    """Points, float32 [samples, 3], and whether the first coordinate is the greatest, with much noise."""
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(samples, 3)).astype(np.float32)
    labels = inputs[:, :1] + generator.normal(size=(samples, 1)) > 0.5
    return inputs, labels.astype(np.float32)


class Points(Scenario):
    """Tells points apart. The last batch of an epoch and of the validation is a partial one."""

    monitor = ("min", "loss")

    def train_data(self) -> Any:
        return points(28, 1)

    def val_data(self) -> Any:
        return points(19, 2)

    def build(self, inputs: Any) -> Any:
        hidden = keras.layers.Dense(4, activation="tanh", name="backbone")(inputs)
        return keras.layers.Dense(1, activation="sigmoid", name="head")(hidden)

    def losses(self) -> Any:
        return keras.losses.BinaryCrossentropy()

    def metrics(self) -> Any:
        return [keras.metrics.BinaryAccuracy(name="accuracy")]


class Recorder(keras.callbacks.Callback):
    """Writes down every call of the hooks named, with the logs and the learning rate at that time."""

    def __init__(self, hooks: Sequence[str] = HOOKS) -> None:
        super().__init__()
        self.calls: list[tuple[str, list[int], dict[str, float], float]] = []
        for hook in hooks:
            setattr(self, f"on_{hook}", self._recording(hook))

    def _recording(self, hook: str) -> Callable[..., None]:
        def record(*where: Any, logs: Any = None) -> None:
            *index, last = where or (None,)
            if isinstance(last, int):
                index.append(last)
            else:
                logs = last or logs
            rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
            self.calls.append((hook, index, dict(logs or {}), rate))

        return record


def trainer_with(make_trainer: Any, callbacks: Sequence[Any], *words: str, **arguments: Any) -> Any:
    """A run of `Points` with these callback objects."""
    cls = arguments.pop("cls", Points)
    words = (*WORDS, "--trainer.epochs", str(EPOCHS), *words)
    named = {f"callback_{index}": (lambda _, made=each: made) for index, each in enumerate(callbacks)}
    parts = attrs.evolve(usual_parts(), callbacks=named)
    return make_trainer(cls, *words, parts=parts, **arguments)


@cache
def usual_parts() -> Parts:
    """SGD at a constant rate, and a SavedModel."""
    layers = [Layer.from_arguments(WORDS)]
    plugins = get_plugin_manager()
    params: Any = resolve(run_params_class(Points.params_class), layers, plugins).value
    return make_parts(params.trainer, plugins)


def fit(weights: list[Any], callbacks: Sequence[Any]) -> Any:
    """The same run under `Model.fit`, from the same weights."""
    scenario = Points(None)  # type: ignore[arg-type]
    inputs = keras.Input((3,))
    model = keras.Model(inputs, scenario.build(inputs))
    model.set_weights(weights)
    model.compile(
        keras.optimizers.SGD(RATE), scenario.losses(), metrics=scenario.metrics(), run_eagerly=True, jit_compile=False
    )
    model.fit(
        *scenario.train_data(), batch_size=BATCH, epochs=EPOCHS, verbose=0, shuffle=False, callbacks=list(callbacks),
        validation_data=scenario.val_data(),
    )  # fmt: skip
    return model


def both(make_trainer: Any, tmp_path: Path, factory: Factory, *words: str) -> tuple[Any, Any, Any, Any]:
    """The run under fit and under aip: the model, the trainer, and each callback, after comparing all calls."""
    trained, recorders = [], [Recorder(), Recorder()]
    made = []
    for name in ("fit", "aip"):
        (tmp_path / name).mkdir()
        made.append(factory(tmp_path / name))
    trainer = trainer_with(make_trainer, [made[1], recorders[1]], *words)
    model = fit(trainer.graph.model.get_weights(), [made[0], recorders[0]])
    trainer.run()
    trained = [model, trainer.graph.model]
    same_calls(*recorders)
    for theirs, ours in zip(*(each.get_weights() for each in trained), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    return model, trainer, made[0], made[1]


def same_calls(theirs: Recorder, ours: Recorder) -> None:
    """The hooks are called in one order with one set of logs; aip adds the learning rate to those of an epoch."""
    assert [call[:2] for call in ours.calls] == [call[:2] for call in theirs.calls]
    for (hook, index, logs, rate), (_, _, expected, expected_rate) in zip(ours.calls, theirs.calls, strict=True):
        assert rate == pytest.approx(expected_rate, rel=1e-6), (hook, index)
        if hook in ("epoch_end", "train_end"):
            logs = {name: value for name, value in logs.items() if name in expected or name != "learning_rate"}
        assert logs == pytest.approx(expected, rel=1e-5, abs=1e-7), (hook, index)


def nothing(folder: Path) -> Any:
    del folder
    return keras.callbacks.Callback()


def calls_of_a_lambda(folder: Path) -> Any:
    file = folder / "calls"

    def note(batch: int, logs: Any) -> None:
        with file.open("a") as calls:
            calls.write(f"{batch} {logs['loss']:.3f}\n")

    return keras.callbacks.LambdaCallback(on_train_batch_end=note, on_test_batch_end=note)


SCHEDULES = {
    "scheduler": lambda _: keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.7 if epoch else 0.3),
    "plateau": lambda _: keras.callbacks.ReduceLROnPlateau(
        "val_loss", factor=0.3, patience=1, min_delta=10.0, min_lr=0.01
    ),
}
OTHERS: dict[str, Factory] = {
    "callback": nothing,
    "lambda": calls_of_a_lambda,
    "history": lambda _: keras.callbacks.History(),
    "early_stopping": lambda _: keras.callbacks.EarlyStopping(
        "val_accuracy", patience=1, min_delta=0.5, restore_best_weights=True
    ),
    "terminate": lambda _: keras.callbacks.TerminateOnNaN(),
    **SCHEDULES,
}


@pytest.mark.parametrize("name", OTHERS)
def test_calls_and_weights_are_those_of_fit(name: str, make_trainer: Any, tmp_path: Path) -> None:
    """With each callback, all hooks are called as under fit, at the same learning rates, and end in the same weights."""
    _, _, theirs, ours = both(make_trainer, tmp_path, OTHERS[name])
    if name == "lambda":
        calls = [(tmp_path / each / "calls").read_text() for each in ("fit", "aip")]
        assert calls[0] == calls[1]
        assert calls[0].count("\n") == EPOCHS * (4 + 3)
    if name == "history":
        assert ours.epoch == theirs.epoch
        for key, values in theirs.history.items():
            np.testing.assert_allclose(ours.history[key], values, rtol=1e-5)
    if name == "early_stopping":
        assert (ours.stopped_epoch, ours.best_epoch) == (theirs.stopped_epoch, theirs.best_epoch) == (1, 0)
