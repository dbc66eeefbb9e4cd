"""A model with one head per combination to compare, so that one run checks hundreds of them.

Each head has separate weights, so that a wrong gradient of one loss affects only that head.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import keras
import numpy as np

from aipcore.scenario import Scenario

SAMPLES, STEPS, FEATURES, CLASSES = 12, 5, 4, 3
"""Sizes of the data. All differ, so that no wrong broadcast goes unnoticed."""

RATE = 0.1

TOLERANCE = 1e-6
"""The greatest relative error."""


@attrs.frozen(kw_only=True)
class Head:
    """One combination.

    Attributes:
        name: The name of the output.
        loss: The argument of `compile(loss=...)`, or None.
        sequence: True if the output has a time axis.
        units: The number of units of the output.
        activation: The activation of the output.
        target: Targets, [samples, ...].
        metrics: The argument of `compile(metrics=...)`.
    """

    name: str
    loss: Any
    sequence: bool
    units: int
    activation: str
    target: Any
    metrics: Sequence[Any] = ()


def features() -> Any:
    """Return inputs, [samples, steps, features]; the last steps of some samples are all zero."""
    values = np.random.default_rng(0).normal(size=(SAMPLES, STEPS, FEATURES)).astype("float32")
    for sample, length in enumerate([5, 3, 1, 4] * (SAMPLES // 4)):
        values[sample, length:] = 0
    return values


def build(inputs: Any, heads: Sequence[Head], *, masked: bool) -> dict[str, Any]:
    """Return the outputs of all heads, with fixed initial weights."""
    sequence = keras.layers.Masking()(inputs) if masked else inputs
    vector = keras.layers.Flatten()(inputs)
    outputs = {}
    for place, head in enumerate(heads):
        init = keras.initializers.RandomUniform(-0.5, 0.5, seed=place)
        dense = keras.layers.Dense(
            head.units, activation=head.activation, kernel_initializer=init, bias_initializer="zeros", name=head.name
        )
        outputs[head.name] = dense(sequence if head.sequence else vector)
    return outputs


def weights_of(heads: Sequence[Head]) -> dict[str, Any]:
    """Return a weight per sample, or per position of a sequence, for each head."""
    draw = np.random.default_rng(5)
    shapes = {True: (SAMPLES, STEPS), False: (SAMPLES,)}
    return {head.name: draw.uniform(0.2, 2, shapes[head.sequence]).astype("float32") for head in heads}


def scenario_of(heads: Sequence[Head], *, masked: bool = False, weights: Mapping[str, Any] | None = None) -> Any:
    """Return a scenario class of these heads; training and validation data are the same."""

    class Heads(Scenario):
        def train_data(self) -> Any:
            targets = {head.name: head.target for head in heads}
            return (features(), targets) if weights is None else (features(), targets, weights)

        def val_data(self) -> Any:
            return self.train_data()

        def build(self, inputs: Any) -> Any:
            return build(inputs, heads, masked=masked)

        def losses(self) -> Any:
            return {head.name: head.loss for head in heads if head.loss is not None}

        def metrics(self) -> Any:
            return {head.name: fresh(head.metrics) for head in heads if head.metrics}

        def weighted_metrics(self) -> Any:
            return self.metrics()

    return Heads


def fresh(metrics: Sequence[Any]) -> list[Any]:
    """Copy metrics: instances are created from their configuration, names and functions are kept."""
    return [m.from_config(m.get_config()) if isinstance(m, keras.metrics.Metric) else m for m in metrics]


WORDS = (
    "--optimizer", "SGD", "--learning_rate", "Constant", "--learning_rate.lr", str(RATE), "--train.shuffle", "false",
    "--trainer.epochs", "1", "--train.batch_size", str(SAMPLES // 2), "--val.batch_size", str(SAMPLES // 2),
    "--trainer.force_eager", "true", "--data.workers", "0",
)  # fmt: skip


def keras_model(heads: Sequence[Head], *, masked: bool = False) -> Any:
    """Return the same model, compiled by Keras."""
    inputs = keras.Input((STEPS, FEATURES))
    model = keras.Model(inputs, build(inputs, heads, masked=masked))
    metrics = {head.name: fresh(head.metrics) for head in heads if head.metrics}
    model.compile(
        keras.optimizers.SGD(RATE),
        loss={head.name: head.loss for head in heads if head.loss is not None},
        metrics=metrics or None,
        weighted_metrics={head.name: fresh(head.metrics) for head in heads if head.metrics} or None,
        run_eagerly=True,
    )
    return model


def compare(
    make_trainer: Any, heads: Sequence[Head], *, masked: bool = False, weights: Mapping[str, Any] | None = None
) -> None:
    """Train two steps and evaluate, in Keras and in aip, and compare all logs and the weights of each head."""
    if weights is not None:
        weights = {head.name: weights[head.name] for head in heads}
    trainer = make_trainer(scenario_of(heads, masked=masked, weights=weights), *WORDS)
    model = keras_model(heads, masked=masked)
    data = {"x": features(), "y": {head.name: head.target for head in heads}, "sample_weight": weights}
    size = SAMPLES // 2
    fit = model.fit(**data, batch_size=size, shuffle=False, verbose=0).history
    evaluated = model.evaluate(**data, batch_size=size, verbose=0, return_dict=True)
    logs = trainer.fit().history[0]
    expected = dict(numbers({name: values[0] for name, values in fit.items()}))
    expected |= dict(numbers({f"val_{name}": value for name, value in evaluated.items()}))
    missing = expected.keys() - logs.keys()
    assert not missing, missing
    wrong = [
        name
        for name, value in expected.items()
        if not np.isclose(logs[name], value, rtol=TOLERANCE, atol=1e-7, equal_nan=True)
    ]
    assert not wrong, [(name, logs[name], expected[name]) for name in wrong]
    for head in heads:
        ours, theirs = (each.get_layer(head.name).get_weights() for each in (trainer.model, model))
        for one, other in zip(ours, theirs, strict=True):
            close = 1e-6 * max(1, np.abs(other).max())
            np.testing.assert_allclose(one, other, rtol=TOLERANCE, atol=close, err_msg=head.name)


def numbers(logs: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield logs of Keras as single numbers: a vector has one for each class."""
    for name, value in logs.items():
        if np.ndim(value) == 0:
            yield name, float(value)
        else:
            yield from ((f"{name}_{place}", float(one)) for place, one in enumerate(np.asarray(value).tolist()))
