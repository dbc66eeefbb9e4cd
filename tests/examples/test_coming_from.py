"""The pairs of examples/coming_from/ train alike: the same losses from the same weights and order of samples."""

from __future__ import annotations

import contextlib
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from aipcore.scenario.loader import load_scenario

PAIRS = Path(__file__).parents[2] / "examples" / "coming_from"

Array = npt.NDArray[np.floating[Any]]


def scenario(name: str) -> Any:
    """Return the scenario class of a file."""
    return load_scenario(str(PAIRS / f"{name}.py"), names=[], find=lambda _: None).cls


def values(trainer: Any, *names: str) -> dict[str, list[float]]:
    """Train, and return the values of each epoch by name."""
    history = trainer.fit().history
    return {name: [epoch[name] for epoch in history] for name in names}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:keras")
def test_keras(make_trainer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario has the losses and metrics of `Model.fit`, and as many epochs."""
    import keras

    trainer = make_trainer(scenario("keras_scenario"), "--trainer.epochs", "10", output="run", exports=False)
    first = trainer.model.get_weights()
    fit = keras.Model.fit

    def spy(model: Any, *args: Any, **arguments: Any) -> Any:
        model.set_weights(first)
        # Keras warns that it does not shuffle a tf.data.Dataset itself.
        return fit(model, *args, **{**arguments, "verbose": 0, "shuffle": False})

    monkeypatch.setattr(keras.Model, "fit", spy)
    monkeypatch.chdir(tmp_path)
    theirs = runpy.run_path(str(PAIRS / "keras_fit.py"))["history"].history
    ours = values(trainer, *theirs)
    for name, found in theirs.items():
        np.testing.assert_allclose(ours[name], found, rtol=1e-5, err_msg=name)


def in_order(samples: int, size: int) -> list[slice]:
    """Return the batches of samples in order."""
    return [slice(first, min(first + size, samples)) for first in range(0, samples, size)]


def cosine(step: int, steps: int) -> float:
    """Return the share of the rate after some of the steps."""
    return float(1 + np.cos(np.pi * step / steps)) / 2


def mean(losses: list[float], parts: list[slice]) -> float:
    """Return the mean loss of a sample, from the mean losses of batches."""
    return float(np.average(losses, weights=[part.stop - part.start for part in parts]))


def perceptron(weights: list[Array], x: Array, labels: Any) -> tuple[float, list[Array]]:
    """Return the cross-entropy of a network with a hidden layer, and its gradients."""
    first, bias, second, bias2 = weights
    hidden = np.maximum(x @ first + bias, 0)
    logits = hidden @ second + bias2
    logits -= logits.max(axis=1, keepdims=True)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = np.arange(len(x))
    loss = float(-np.log(chances[rows, labels]).mean())
    chances[rows, labels] -= 1
    outer = chances / len(x)
    inner = (outer @ second.T) * (hidden > 0)
    return loss, [x.T @ inner, inner.sum(axis=0), hidden.T @ outer, outer.sum(axis=0)]


def test_lightning(make_trainer: Any) -> None:
    """The scenario has the losses of PyTorch's AdamW, its schedule and its clipping, written in NumPy."""
    cls = scenario("lightning_scenario")
    epochs = 4
    trainer = make_trainer(cls, "--train.shuffle", "false", "--trainer.epochs", str(epochs), exports=False)
    weights = [np.asarray(each, "float64") for each in trainer.model.get_weights()]
    ours = values(trainer, "loss", "val_loss")
    train, val = trainer.scenario.train_data(), trainer.scenario.val_data()
    parts = in_order(len(train), 32)
    first, second = ([np.zeros_like(each) for each in weights] for _ in range(2))
    step, steps = 0, epochs * len(parts)
    theirs: dict[str, list[float]] = {"loss": [], "val_loss": []}
    for _ in range(epochs):
        losses = []
        for part in parts:
            loss, gradients = perceptron(weights, train.points[part].astype("float64"), train.labels[part])
            losses.append(loss)
            norm = np.sqrt(sum((each**2).sum() for each in gradients))
            scale = min(1.0, 1.0 / (norm + 1e-6))
            rate = 0.01 * cosine(step, steps)
            step += 1
            for n, gradient in enumerate(gradients):
                first[n] += 0.1 * (scale * gradient - first[n])
                second[n] += 0.001 * ((scale * gradient) ** 2 - second[n])
                size = np.sqrt(second[n] / (1 - 0.999**step)) + 1e-8
                weights[n] = weights[n] * (1 - 0.01 * rate) - rate * first[n] / (1 - 0.9**step) / size
        theirs["loss"].append(mean(losses, parts))
        theirs["val_loss"].append(perceptron(weights, val.points.astype("float64"), val.labels)[0])
    for name, found in theirs.items():
        # One computes in float32, the other in float64.
        np.testing.assert_allclose(ours[name], found, rtol=1e-4, err_msg=name)


@pytest.fixture
def quiet_datasets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Let the library `datasets` show no progress and write into the folder of the test."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()
    yield datasets
    with contextlib.suppress(Exception):
        datasets.enable_progress_bars()


@pytest.mark.slow
@pytest.mark.usefixtures("quiet_datasets")
def test_hugging_face(make_trainer: Any) -> None:
    """The scenario has the losses of a loop in Keras with the rates, decay and clipping of `Trainer`."""
    import keras
    import tensorflow as tf

    epochs = 4
    words = ("--train.shuffle", "false", "--trainer.epochs", str(epochs))
    trainer = make_trainer(scenario("hugging_face_scenario"), *words, exports=False)
    layers = keras.layers
    embedding = layers.Embedding(13, 16, mask_zero=True)
    model = keras.Sequential([keras.Input((None,)), embedding, layers.GlobalAveragePooling1D(), layers.Dense(2)])
    model.set_weights(trainer.model.get_weights())
    ours = values(trainer, "loss", "val_loss", "val_accuracy")

    optimizer = keras.optimizers.AdamW(0.0, weight_decay=0.01, epsilon=1e-8, global_clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function(reduce_retracing=True)
    def update(ids: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = entropy(labels, model(ids, training=True))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    optimizer.build(model.trainable_variables)
    ids, labels = padded(trainer.scenario.train_data())
    val_ids, val_labels = padded(trainer.scenario.val_data())
    parts = in_order(len(labels), 16)
    steps, warmup, step = epochs * len(parts), len(parts), 0
    theirs: dict[str, list[float]] = {"loss": [], "val_loss": [], "val_accuracy": []}
    for _ in range(epochs):
        losses = []
        for part in parts:
            share = step / warmup if step < warmup else cosine(step - warmup, steps - warmup)
            optimizer.learning_rate.assign(0.01 * share)
            losses.append(float(update(ids[part], labels[part])))
            step += 1
        theirs["loss"].append(mean(losses, parts))
        logits = np.asarray(model(val_ids))
        theirs["val_loss"].append(float(entropy(val_labels, logits)))
        theirs["val_accuracy"].append(float((logits.argmax(axis=1) == val_labels).mean()))
    for name, found in theirs.items():
        np.testing.assert_allclose(ours[name], found, rtol=1e-5, err_msg=name)


def padded(rows: Any) -> tuple[Any, Any]:
    """Return the ids of the rows, padded with 0 at their ends, and the labels."""
    found = [np.asarray(row["input_ids"]) for row in rows]
    longest = max(map(len, found))
    ids = np.stack([np.pad(each, (0, longest - len(each))) for each in found])
    return ids, np.asarray([int(row["label"]) for row in rows])
