"""Losses of every kind of denominator, for groups of batches that equal one large batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from parity_heads import CLASSES, SAMPLES, STEPS, Head, scenario_of

WEIGHTED = ("weighted", "mean_of_weights")


def group_heads() -> tuple[type[Any], Callable[[Any], list[Any]]]:
    """Return a scenario class, and a function that reads the weights of the heads of a trainer."""
    draw = np.random.default_rng(6)
    numbers = draw.normal(size=(SAMPLES, CLASSES)).astype("float32")
    sequences = draw.normal(size=(SAMPLES, STEPS, CLASSES)).astype("float32")
    ids = draw.integers(0, CLASSES, (SAMPLES, STEPS)).astype("int32")
    ids[:, 4:] = ids[::3, 1:] = -1

    def scalar(y_true: Any, y_pred: Any) -> Any:
        return keras.ops.mean(keras.ops.abs(y_true - y_pred))

    losses = keras.losses
    kinds = {
        "masked": (losses.MeanSquaredError(), sequences),
        "ignored": (losses.SparseCategoricalCrossentropy(ignore_class=-1), ids),
        "summed": (losses.MeanSquaredError(reduction="sum"), numbers),
        "sum": (losses.MeanSquaredError(reduction="sum"), sequences),
        "scalar": (scalar, numbers),
        "weighted": (losses.MeanAbsoluteError(), numbers),
        "mean_of_weights": (losses.MeanSquaredError(reduction="mean_with_sample_weight"), numbers),
        "plain": ("mse", numbers),
    }
    heads = [
        Head(
            name=name, loss=loss, sequence=target is ids or target is sequences, units=CLASSES,
            activation="softmax" if target is ids else "linear", target=target,
            metrics=["mae"] if name in ("masked", "weighted") else [],
        )
        for name, (loss, target) in kinds.items()
    ]  # fmt: skip
    weights = {name: draw.uniform(0.1, 3, SAMPLES).astype("float32") for name in WEIGHTED}

    class Regularised(scenario_of(heads, masked=True, weights=weights)):  # type: ignore[misc]
        def build(self, inputs: Any) -> Any:
            outputs = super().build(inputs)
            added = keras.layers.Dense(CLASSES, activity_regularizer="l2", kernel_regularizer="l2", name="extra")
            return {**outputs, "plain": outputs["plain"] + 0.1 * added(keras.layers.Flatten()(inputs))}

    return Regularised, lambda trainer: [weight.numpy() for weight in trainer.model.trainable_variables]
