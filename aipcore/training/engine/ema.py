"""Exponential moving average (EMA) of the weights, stored beside them and swapped in for evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from aipcore.distributed.strategy import Distribution
from aipcore.scenario.model import Graph

LEAST_RATE, GREATEST_RATE = 0.9, 0.9999
"""Bounds of the rate that is computed from the length of an epoch."""


def averaging_rate(given: float, updates_per_epoch: int) -> float:
    """Return the rate of the average: the given one, or, if negative, one that averages over about one epoch.

    A rate r weighs the weights of n updates ago by r^n, which sums to 1 / (1 - r) updates. The computed rate is
    1 - 1 / updates_per_epoch, clamped to 0.9 to 0.9999.
    """
    if given >= 0:
        return given
    return min(max(1 - 1 / updates_per_epoch, LEAST_RATE), GREATEST_RATE)


def averaged_variables(graph: Graph, weights: Sequence[Any], *, batch_norm: bool) -> list[Any]:
    """Return the averaged variables: the trained weights and, optionally, their batch normalisation statistics."""
    variables = list(weights)
    if batch_norm:
        whole = len(variables) == len(graph.model.trainable_variables)
        for layer in graph.model._flatten_layers(include_self=False):
            if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
                own = {id(weight) for weight in layer.trainable_variables}
                if whole or any(id(weight) in own for weight in weights):
                    variables += [layer.moving_mean, layer.moving_variance]
    return variables


class WeightAverage:
    """Shadow variables that follow the weights: shadow += (1 - rate) * (weight - shadow), once per optimizer update.

    Args:
        variables: the Keras variables to follow; the shadows start with their values.
        rate: from 0 (no average: the shadow is the weight) to below 1.
        distribution: the devices that hold the variables.
    """

    def __init__(self, variables: Sequence[Any], rate: float, distribution: Distribution) -> None:
        self.rate = rate
        self._distribution = distribution
        self._followed = list(variables)
        # Weights are identical on all replicas, batch-norm statistics are not. A weight may be frozen later.
        self._differ = [not variable.trainable for variable in self._followed]
        self.shadows = [
            tf.Variable(tf.identity(variable.value), trainable=False, name=variable.path) for variable in self._followed
        ]
        self._raw: list[Any] | None = None

    def update(self) -> None:
        """Update the averages with the current weights; runs inside the compiled step."""
        for shadow, variable, differ in zip(self.shadows, self._followed, self._differ, strict=True):
            value = self._distribution.mean(variable) if differ else variable.value
            shadow.assign_add((value - shadow) * (1 - self.rate))

    def reset(self) -> None:
        """Restart the averages at the current weights."""
        for shadow, variable in zip(self.shadows, self._followed, strict=True):
            shadow.assign(variable.value)

    @classmethod
    def joined(cls, averages: Sequence[WeightAverage], distribution: Distribution) -> WeightAverage:
        """Return the averages of several updates as one, which shares their shadow variables."""
        joined = cls([], averages[0].rate, distribution)
        joined._followed = [variable for each in averages for variable in each._followed]
        joined.shadows = [shadow for each in averages for shadow in each.shadows]
        return joined

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Replace the weights by their averages, and restore the exact weights afterwards.

        A weight assigned inside the context, for example by a callback, keeps its new value, and so does its average.
        """
        raw = [tf.identity(variable.value) for variable in self._followed]
        outer, self._raw = self._raw, raw if self._raw is None else self._raw
        try:
            self._assign(self.shadows)
            yield
        finally:
            self._raw = outer
            written = tf.stack([_differs(*pair) for pair in zip(self._followed, self.shadows, strict=True)]).numpy()
            for variable, shadow, value, keep in zip(self._followed, self.shadows, raw, written, strict=True):
                if keep:
                    shadow.assign(variable.value)
                else:
                    variable.assign(value)

    def settle(self) -> None:
        """Replace the weights by their averages permanently; training cannot continue afterwards."""
        self._assign(self.shadows)

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Restore the raw weights temporarily, inside `applied`; does nothing elsewhere."""
        if self._raw is None:
            yield
            return
        shown = [tf.identity(variable.value) for variable in self._followed]
        try:
            self._assign(self._raw)
            yield
        finally:
            self._assign(shown)

    def _assign(self, values: Sequence[Any]) -> None:
        for variable, value in zip(self._followed, values, strict=True):
            variable.assign(value)


def _differs(variable: Any, shadow: Any) -> Any:
    value, shadow = tf.convert_to_tensor(variable.value), tf.convert_to_tensor(shadow)
    return tf.reduce_any((value != shadow) & ~(tf.math.is_nan(value) & tf.math.is_nan(shadow)))
