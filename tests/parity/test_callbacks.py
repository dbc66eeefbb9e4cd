"""Callbacks of Keras in `Model.fit` and in a run of aip: the same calls, logs and effects."""

from __future__ import annotations

import csv
import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import attrs
import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from aipcore.errors import PluginError, ScenarioError, TrainingError
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Layer, resolve
from aipcore.scenario import Scenario
from aipcore.training.checkpoint.format import newest_checkpoint
from aipcore.training.components import make_parts
from aipcore.training.params import run_params_class
from aipcore.training.setup import RunComponents

# Keras' save functions use an outdated NumPy protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

EPOCHS, BATCH, RATE = 3, 8, 0.2
HOOKS = (
    "train_begin", "train_end", "epoch_begin", "epoch_end", "train_batch_begin", "train_batch_end", "test_begin",
    "test_end", "test_batch_begin", "test_batch_end",
)  # fmt: skip
OPTIONS = {
    "optimizer": "SGD", "learning_rate": "Constant", "learning_rate.lr": RATE, "train.shuffle": "false",
    "train.batch_size": BATCH, "trainer.tune": "off", "trainer.skip_sanity_check": "true",
    "trainer.force_eager": "true", "trainer.epochs": EPOCHS,
}  # fmt: skip

Factory = Callable[[Path], list[Any]]


def points(samples: int, seed: int) -> tuple[Any, Any]:
    """Return points, float32 [samples, 3], with noisy labels: 1 if the first coordinate is the largest."""
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(samples, 3)).astype(np.float32)
    labels = inputs[:, :1] + generator.normal(size=(samples, 1)) > 0.5
    return inputs, labels.astype(np.float32)


class Points(Scenario):
    """A scenario that classifies points; the last batches of training and validation are partial."""

    monitor = ("min", "loss")

    def train_data(self) -> Any:
        return points(20, 1)

    def val_data(self) -> Any:
        return points(13, 2)

    def build(self, inputs: Any) -> Any:
        hidden = keras.layers.Dense(4, activation="tanh", name="backbone")(inputs)
        return keras.layers.Dense(1, activation="sigmoid", name="head")(hidden)

    def losses(self) -> Any:
        return keras.losses.BinaryCrossentropy()

    def metrics(self) -> Any:
        return [keras.metrics.BinaryAccuracy(name="accuracy")]


class Recorder(keras.callbacks.Callback):
    """A callback that records every call of the named hooks, with the logs and the current learning rate."""

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


def trainer_with(make_trainer: Any, callbacks: Sequence[Any], options: Any = (), **arguments: Any) -> Any:
    """Return a run of `Points` with these callback objects."""
    words = tuple(f"--{name}={value}" for name, value in {**OPTIONS, **dict(options)}.items())
    named = {f"callback_{index}": (lambda _, made=each: made) for index, each in enumerate(callbacks)}
    parts = attrs.evolve(usual_parts(words), callbacks=named)
    return make_trainer(arguments.pop("cls", Points), *words, parts=parts, **arguments)


@cache
def usual_parts(words: tuple[str, ...]) -> RunComponents:
    """Return optimizer, schedule and formats as in the options."""
    plugins = get_plugin_manager()
    params: Any = resolve(run_params_class(Points.params_class), [Layer.from_arguments(words)], plugins).value
    return make_parts(params.trainer, plugins)


def fit(cls: type[Points], weights: list[Any], callbacks: Sequence[Any]) -> Any:
    """Train with `Model.fit` from the same weights."""
    scenario = cls(None)  # type: ignore[arg-type]
    inputs = keras.Input((3,), name="inputs")
    model = keras.Model(inputs, scenario.build(inputs))
    model.set_weights(weights)
    model.compile(keras.optimizers.SGD(RATE), scenario.losses(), metrics=scenario.metrics(), run_eagerly=True)
    model.fit(
        *scenario.train_data(), batch_size=BATCH, epochs=EPOCHS, verbose=0, shuffle=False, callbacks=list(callbacks),
        validation_data=scenario.val_data(),
    )  # fmt: skip
    return model


def both(make_trainer: Any, tmp_path: Path, factory: Factory, cls: type[Points] = Points) -> list[list[Any]]:
    """Return the callbacks after fit and after aip, and check that calls, rates and weights agree."""
    keras.utils.clear_session()
    (tmp_path / "fit").mkdir()
    (tmp_path / "aip").mkdir()
    theirs, ours = factory(tmp_path / "fit"), factory(tmp_path / "aip")
    recorders = [Recorder(), Recorder()]
    trainer = trainer_with(make_trainer, [*ours, recorders[1]], cls=cls)
    first = trainer.model.get_weights()
    trainer.fit()
    keras.utils.clear_session()
    model = fit(cls, first, [*theirs, recorders[0]])
    same_calls(*recorders)
    for expected, found in zip(model.get_weights(), trainer.model.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    return [theirs, ours]


def same_calls(theirs: Recorder, ours: Recorder) -> None:
    """Check that the hooks are called in the same order with the same logs; aip adds the learning rate to epochs."""
    assert [call[:2] for call in ours.calls] == [call[:2] for call in theirs.calls]
    for (hook, index, logs, rate), (_, _, expected, expected_rate) in zip(ours.calls, theirs.calls, strict=True):
        assert rate == pytest.approx(expected_rate, rel=1e-6), (hook, index)
        if "learning_rate" not in expected:
            added = {"learning_rate"} if hook in ("epoch_end", "train_end") else set()
            assert logs.keys() - expected.keys() == added, (hook, index)
            logs.pop("learning_rate", None)
        assert logs == pytest.approx(expected, rel=1e-5, abs=1e-7, nan_ok=True), (hook, index)


def a_scheduler(folder: Path) -> list[Any]:
    """Set the rate of each epoch."""
    del folder
    return [keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.7 if epoch else 0.3)]


def a_plateau(folder: Path) -> list[Any]:
    """Reduce the rate, down to a bound."""
    del folder
    return [keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.3, patience=1, min_delta=10.0, min_lr=0.03)]


def an_early_stop(folder: Path) -> list[Any]:
    """Stop, and restore the weights of an earlier epoch."""
    del folder
    return [keras.callbacks.EarlyStopping("val_accuracy", patience=1, min_delta=0.5, restore_best_weights=True)]


def a_warmup(folder: Path) -> list[Any]:
    """Set the rate of each batch, and end each validation after its first batch."""
    del folder

    def warm(batch: int, logs: Any) -> None:
        made.model.optimizer.learning_rate = 0.05 * (batch + 1)

    def end(batch: int, logs: Any) -> None:
        made.model.stop_evaluating = True

    made = keras.callbacks.LambdaCallback(on_train_batch_begin=warm, on_test_batch_end=end)
    return [made]


@pytest.mark.parametrize("factory", [a_scheduler, a_warmup, a_plateau, an_early_stop])
def test_active_callbacks(factory: Factory, make_trainer: Any, tmp_path: Path) -> None:
    """With an active callback, all hooks, logs, learning rates and weights equal those of fit."""
    [[theirs], [ours]] = both(make_trainer, tmp_path, factory)
    if factory is an_early_stop:
        assert (ours.stopped_epoch, ours.best_epoch) == (theirs.stopped_epoch, theirs.best_epoch) == (1, 0)
    if factory is a_plateau:
        rates = [float(each.model.optimizer.learning_rate) for each in (theirs, ours)]
        assert rates == pytest.approx([0.03, 0.03], rel=1e-6)


class Infinite(Points):
    """A scenario with an infinite loss in the second batch."""

    def train_data(self) -> Any:
        inputs, labels = points(20, 1)
        inputs[9] = np.inf
        return inputs, labels


def test_terminate_on_nan(make_trainer: Any, tmp_path: Path) -> None:
    """The run ends after the same batch as fit."""
    both(make_trainer, tmp_path, lambda _: [keras.callbacks.TerminateOnNaN()], Infinite)


class Server(BaseHTTPRequestHandler):
    """A server that keeps posted data, by path."""

    received: ClassVar[dict[str, list[Any]]] = {}

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.setdefault(self.path, []).append(json.loads(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Print nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    """Yield the address of a server."""
    with HTTPServer(("127.0.0.1", 0), Server) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


def observers(folder: Path, server: str) -> list[Any]:
    """Return the callbacks of Keras that only write, with their options."""
    noted: list[tuple[str, int, float]] = []
    made = [
        keras.callbacks.History(),
        keras.callbacks.CSVLogger(folder / "log.csv"),
        keras.callbacks.TensorBoard(folder / "events", histogram_freq=1, update_freq=1, write_graph=False),
        keras.callbacks.RemoteMonitor(server, f"/{folder.name}", send_as_json=True),
        keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: noted.append(("train", batch, logs["loss"])),
            on_test_batch_end=lambda batch, logs: noted.append(("test", batch, logs["loss"])),
        ),
        keras.callbacks.ModelCheckpoint(folder / "{epoch}.weights.h5", save_weights_only=True),
        keras.callbacks.ModelCheckpoint(folder / "b{epoch}-{batch}.weights.h5", save_weights_only=True, save_freq=2),
        keras.callbacks.ModelCheckpoint(folder / "whole.keras"),
        keras.callbacks.ModelCheckpoint(folder / "best.keras", "val_accuracy", save_best_only=True),
    ]
    made[4].noted = noted
    return made


def weights_of(file: Path) -> list[Any]:
    """Return the weights in a file of Keras."""
    if file.suffix == ".keras":
        return list(keras.saving.load_model(file, compile=False).get_weights())
    with h5py.File(file) as opened:
        found: dict[str, Any] = {}
        opened["layers"].visititems(
            lambda name, each: found.update({name: each[()]}) if isinstance(each, h5py.Dataset) else None
        )
    return [found[name] for name in sorted(found)]


@pytest.mark.slow
def test_observing_callbacks(make_trainer: Any, tmp_path: Path, server: str) -> None:
    """Files, events and messages of all callbacks that only observe equal those of fit."""
    theirs, ours = both(make_trainer, tmp_path, lambda folder: observers(folder, server))
    for key, values in theirs[0].history.items():
        np.testing.assert_allclose(ours[0].history[key], values, rtol=1e-5)
    assert len(ours[4].noted) == EPOCHS * (3 + 2)
    assert [(part, batch) for part, batch, _ in ours[4].noted] == [(part, batch) for part, batch, _ in theirs[4].noted]
    np.testing.assert_allclose([each[2] for each in ours[4].noted], [each[2] for each in theirs[4].noted], rtol=1e-5)
    tables = []
    for name in ("fit", "aip"):
        with (tmp_path / name / "log.csv").open() as file:
            tables.append(list(csv.DictReader(file)))
    posted = [Server.received[f"/{name}"] for name in ("fit", "aip")]
    for rows in (tables, posted):
        for expected, found in zip(*rows, strict=True):
            assert {key: float(found[key]) for key in expected} == pytest.approx(
                {key: float(value) for key, value in expected.items()}, rel=1e-5
            )
    files = [sorted(each.name for each in (tmp_path / name).glob("*[5s]")) for name in ("fit", "aip")]
    assert files[0] == files[1]
    assert len(files[0]) == 3 + 4 + 2 + 1
    for name in files[0]:
        if name.endswith(("h5", "keras")):
            for one, other in zip(*(weights_of(tmp_path / side / name) for side in ("fit", "aip")), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6, err_msg=name)
    for part in ("train", "validation"):
        events = [EventAccumulator(str(tmp_path / name / "events" / part)).Reload() for name in ("fit", "aip")]
        expected, found = (each.Tags() for each in events)
        assert set(found["tensors"]) == set(expected["tensors"]), part
        for tag in expected["tensors"]:
            values = [[(e.step, tf.make_ndarray(e.tensor_proto)) for e in each.Tensors(tag)] for each in events]
            assert [step for step, _ in values[0]] == [step for step, _ in values[1]], tag
            if "histogram" not in tag:
                np.testing.assert_allclose(*([value for _, value in side] for side in values), rtol=1e-5, err_msg=tag)


def test_callbacks_with_batch_hooks(make_trainer: Any, tmp_path: Path) -> None:
    """Batch hooks on the instance count like those in the class, and so does ModelCheckpoint that saves in between."""
    patient = keras.callbacks.LambdaCallback(on_batch_end=lambda batch, logs: None)
    patient.accepts_chunks = True
    made = [
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None),
        keras.callbacks.LambdaCallback(on_batch_end=lambda batch, logs: None),
        patient,
        keras.callbacks.ModelCheckpoint(tmp_path / "a.keras"),
        keras.callbacks.ModelCheckpoint(tmp_path / "b.keras", save_freq=2),
        keras.callbacks.TerminateOnNaN(),
    ]
    assert trainer_with(make_trainer, made)._per_batch == ["callback_1", "callback_4", "callback_5"]


class Turning(Points):
    """A scenario whose only weight moves from 0 towards 1, with a validation optimum of 0.5."""

    def train_data(self) -> Any:
        return np.ones((16, 1), np.float32), np.ones((16, 1), np.float32)

    def val_data(self) -> Any:
        return np.ones((4, 1), np.float32), np.full((4, 1), 0.5, np.float32)

    def build(self, inputs: Any) -> Any:
        return keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="head")(inputs)

    def losses(self) -> Any:
        return lambda target, output: 0.25 * keras.ops.mean(keras.ops.square(target - output), -1)

    def metrics(self) -> Any:
        return []


def turning_weights(epochs: int, rate: float) -> list[tuple[float, float]]:
    """Return the weight of `Turning` and its average after each batch."""
    weight = average = 0.0
    found = []
    for _ in range(2 * epochs):
        weight += RATE * 2 * (1 - weight) * 0.25
        average = rate * average + (1 - rate) * weight
        found.append((weight, average))
    return found


EMA = {"trainer.calc_ema": 0.5}


def test_early_stopping_decides_on_the_export_with_averaged_weights(make_trainer: Any, tmp_path: Path) -> None:
    """With EMA, `export` has the average of the best epoch, like `best`."""
    stop = keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True)
    trainer = trainer_with(make_trainer, [stop], {**EMA, "trainer.epochs": 12}, cls=Turning, output="out")
    result = trainer.fit()
    averages = [average for _, average in turning_weights(12, 0.5)[1::2]]
    best = int(np.argmin([(average - 0.5) ** 2 for average in averages]))
    assert (result.best_epoch, result.epochs) == (best + 1, best + 3)
    for name in ("best", "export"):
        served = tf.saved_model.load(str(tmp_path / "out" / name)).signatures["serving_default"]
        [value] = served(tf.ones((1, 1))).values()
        assert float(value[0, 0]) == pytest.approx(averages[best], rel=1e-5), name
    assert abs(averages[best + 2] - averages[best]) > 0.05


def test_model_checkpoint_saves_the_averaged_weights(make_trainer: Any, tmp_path: Path) -> None:
    """With EMA, the models saved after epochs and after batches have the averages of that time."""
    made = [
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True),
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}-{batch}.keras", save_freq=3),
    ]
    trainer = trainer_with(make_trainer, made, EMA, cls=Turning)
    trainer.fit()
    steps = turning_weights(3, 0.5)
    for file, batches in (("1.weights.h5", 2), ("3.weights.h5", 6), ("2-1.keras", 3), ("3-2.keras", 6)):
        [weight] = weights_of(tmp_path / file)
        assert float(weight[0, 0]) == pytest.approx(steps[batches - 1][1], rel=1e-5), file
    assert float(trainer.model.get_weights()[0][0, 0]) == pytest.approx(steps[5][0], rel=1e-5)


def test_weights_that_a_callback_writes_stay(make_trainer: Any) -> None:
    """A value that a callback assigns after an epoch replaces the weight and its average."""
    seen = []

    def write(epoch: int, logs: Any) -> None:
        seen.append(float(write_to.model.get_weights()[0][0, 0]))
        if epoch == 0:
            write_to.model.set_weights([np.full((1, 1), 0.75, np.float32)])

    write_to = keras.callbacks.LambdaCallback(on_epoch_end=write)
    trainer = trainer_with(make_trainer, [write_to], {**EMA, "trainer.epochs": 2}, cls=Turning)
    trainer.fit()
    first = turning_weights(1, 0.5)[-1][1]
    weight = average = 0.75
    for _ in range(2):
        weight += RATE * 2 * (1 - weight) * 0.25
        average = 0.5 * average + 0.5 * weight
    assert seen == pytest.approx([first, average], rel=1e-5)
    assert float(trainer.model.get_weights()[0][0, 0]) == pytest.approx(weight, rel=1e-5)


# Its package is not installed, so that it cannot be constructed.
Orbax = keras.callbacks.OrbaxCheckpoint
REFUSED = {
    "BackupAndRestore": keras.callbacks.BackupAndRestore,
    "CallbackList": lambda _: keras.callbacks.CallbackList([]),
    "OrbaxCheckpoint": lambda _: Orbax.__new__(Orbax),
    "ProgbarLogger": lambda _: keras.callbacks.ProgbarLogger(),
    "SwapEMAWeights": lambda _: keras.callbacks.SwapEMAWeights(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused(name: str, make_trainer: Any, tmp_path: Path, refused: Any) -> None:
    """An unsupported callback is refused with its replacement before anything is written."""
    make = REFUSED[name]
    with refused(PluginError):
        trainer_with(make_trainer, [make(tmp_path / "backup")])
    assert not (tmp_path / "backup").exists()


def test_what_lacks_something_is_refused(make_trainer: Any, monkeypatch: pytest.MonkeyPatch, refused: Any) -> None:
    """Objects that are not callbacks, monitors without a direction, and missing packages are refused."""
    monkeypatch.setitem(sys.modules, "requests", None)
    with refused(PluginError):
        trainer_with(make_trainer, [keras.callbacks.RemoteMonitor()])
    with refused(PluginError):
        trainer_with(make_trainer, [{}])
    stop = keras.callbacks.EarlyStopping("val_wer")
    with refused(PluginError):
        trainer_with(make_trainer, [stop])


def test_all_callbacks_of_keras_are_documented() -> None:
    """The table of docs/callbacks.md has a row for each callback of Keras."""
    text = (Path(__file__).parents[2] / "docs" / "callbacks.md").read_text(encoding="utf-8")
    shipped = {name for name in dir(keras.callbacks) if isinstance(getattr(keras.callbacks, name), type)}
    assert {name for name in shipped if f"| `{name}` |" not in text} <= {"Callback"}


@pytest.mark.parametrize("where", ["on_train_begin", "on_epoch_begin", "on_train_batch_end"])
def test_a_change_of_trainable_is_refused(where: str, make_trainer: Any, refused: Any) -> None:
    """A callback that freezes a layer ends the run with an error that names the layer."""

    def freeze(*_: Any, **__: Any) -> None:
        callback.model.get_layer("backbone").trainable = False

    callback = keras.callbacks.LambdaCallback(**{where: freeze})
    trainer = trainer_with(make_trainer, [callback])
    with refused(ScenarioError):
        trainer.fit()
    assert trainer.state.epoch == 0


DECAY = {"learning_rate": "ExponentialDecay", "learning_rate.decay": 0.5}


def test_assigned_rate_scales_the_schedule(make_trainer: Any, refused: Any) -> None:
    """An assigned rate takes effect and then decays as scheduled."""
    trainer = trainer_with(make_trainer, [], DECAY)
    optimizer, updates = trainer.engine.optimizer, trainer.data.horizon.updates_per_epoch
    optimizer.learning_rate = 0.02
    assert float(optimizer.learning_rate) == pytest.approx(0.02, rel=1e-6)
    optimizer.iterations.assign(updates)
    assert float(optimizer.learning_rate) == pytest.approx(0.01, rel=1e-6)
    for wrong in (float("nan"), -1.0):
        with refused(TrainingError):
            optimizer.learning_rate = wrong
    trainer.engine.learning_rate.schedule = lambda step: 0.0 * tf.cast(step, tf.float32)
    with refused(TrainingError):
        optimizer.learning_rate = 0.5


def test_resume_keeps_rates_set_by_callbacks(make_trainer: Any, tmp_path: Path) -> None:
    """A resumed run with callbacks that change the rate is bit-identical and has the whole history."""

    def make() -> list[Any]:
        return [
            keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.7),
            keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.3, patience=1, min_delta=10.0),
            keras.callbacks.History(),
        ]

    whole = trainer_with(make_trainer, make(), {**DECAY, "trainer.epochs": 4})
    whole.fit()
    options = {**DECAY, "trainer.export_best": "false", "trainer.export_final": "false"}
    trainer_with(make_trainer, make(), {**options, "trainer.epochs": 2}, output="parts").fit()
    resumed = trainer_with(make_trainer, make(), {**options, "trainer.epochs": 4}, output="parts")
    resumed.restore(newest_checkpoint(tmp_path / "parts" / "checkpoint"))
    resumed.fit()
    for name, value in whole.state.variables.read().items():
        np.testing.assert_array_equal(resumed.state.variables.read()[name], value, err_msg=name)
    histories = [list(each.callbacks.values())[2] for each in (whole, resumed)]
    assert histories[0].history == histories[1].history
    assert histories[1].epoch == [0, 1, 2, 3]
