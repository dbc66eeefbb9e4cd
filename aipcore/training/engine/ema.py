"""An exponential moving average of the weights, kept beside them and put in their place to evaluate."""

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
    """The rate of the average: as given, or, if negative, such that it looks back over about one epoch.

    A rate r weighs the weights of n updates ago by r^n, which sums to 1 / (1 - r) updates; the computed rate is
    1 - 1 / updates_per_epoch, kept from 0.9 to 0.9999.
    """
    if given >= 0:
        return given
    return min(max(1 - 1 / updates_per_epoch, LEAST_RATE), GREATEST_RATE)


def averaged_variables(graph: Graph, *, batch_norm: bool) -> list[Any]:
    """What is averaged: all trainable weights and, if asked for, the statistics of batch normalisation."""
    variables = list(graph.model.trainable_variables)
    if batch_norm:
        for layer in graph.model._flatten_layers(include_self=False):
            if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
                variables += [layer.moving_mean, layer.moving_variance]
    return variables


class WeightAverage:
    """Shadow variables that follow the weights: shadow += (1 - rate) * (weight - shadow), once an optimizer update.

    Args:
        variables: the Keras variables to follow; the shadows begin with their values.
        rate: from 0 (no average: the shadow is the weight) to below 1.
        distribution: what the variables are spread over.
    """

    def __init__(self, variables: Sequence[Any], rate: float, distribution: Distribution) -> None:
        self.rate = rate
        self._distribution = distribution
        self._followed = list(variables)
        self.shadows = [
            tf.Variable(tf.identity(variable.value), trainable=False, name=variable.path) for variable in self._followed
        ]
        self._raw: list[Any] | None = None

    def update(self) -> None:
        """Takes in the weights as they are after an update; runs inside the compiled step."""
        for shadow, variable in zip(self.shadows, self._followed, strict=True):
            # Weights are the same on all replicas, batch-norm statistics are not.
            value = variable.value if variable.trainable else self._distribution.mean(variable)
            shadow.assign_add((value - shadow) * (1 - self.rate))

    def reset(self) -> None:
        """Begins anew with the weights as they are."""
        for shadow, variable in zip(self.shadows, self._followed, strict=True):
            shadow.assign(variable.value)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Puts the averages in the place of the weights, and afterwards the very bits that were there before.

        A weight that is written inside the context, as callbacks do, keeps what was written, and so does its average.
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
        """Puts the averages in the place of the weights for good; training cannot continue from there."""
        self._assign(self.shadows)

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Puts the raw weights back for a while, inside of `applied`; elsewhere it does nothing."""
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
