"""Batch normalisation in training by TensorFlow's fused kernel instead of Keras' single operations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import keras
import tensorflow as tf

LEAST_EPSILON = 1.001e-5
"""cuDNN requires an epsilon of at least 1e-5."""

_DISABLED: ContextVar[bool] = ContextVar("disabled", default=False)


@contextmanager
def keras_kernels() -> Iterator[None]:
    """Trace all layers as Keras computes them.

    XLA computes the variance of the fused kernel as the mean of squares minus the square of the mean. In float32, it is
    2% off for a mean of 100 standard deviations, and becomes negative and NaN for larger means.
    """
    token = _DISABLED.set(True)
    try:
        yield
    finally:
        _DISABLED.reset(token)


def use_fused_kernels(model: Any) -> None:
    """Let the batch normalisation layers of a model train with TensorFlow's fused kernel, except in `keras_kernels`.

    Weights, names, configuration and inference stay those of Keras, and so does everything that is exported. Subclasses
    of the layer, synchronised layers, renormalisation, weights in other types than float32, and inputs other than
    `[batch, height, width, channels]` are left as they are.
    """
    for layer in model._flatten_layers():
        if type(layer) is keras.layers.BatchNormalization and _is_fusible(layer):
            # An attribute of the layer: its class, which is stored with the model, does not change.
            layer.__dict__["call"] = partial(_call, layer)


def _is_fusible(layer: Any) -> bool:
    spec = layer.input_spec
    return (
        spec is not None
        and spec.ndim == 4
        and layer.axis in (-1, 3)
        and not (layer.synchronized or layer.renorm)
        and layer.epsilon >= LEAST_EPSILON
        and layer.variable_dtype == "float32"
    )


def _call(layer: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    """Return `(x - mean) / sqrt(variance + epsilon) * gamma + beta` over a batch, and update the moving statistics."""
    # Keras computes with integers and with other floats than those of the layer, too.
    as_layer = inputs.dtype == layer.compute_dtype
    if not (training and layer.trainable and as_layer) or mask is not None or _DISABLED.get():
        return type(layer).call(layer, inputs, training=training, mask=mask)
    mean = tf.convert_to_tensor(layer.moving_mean)
    gamma = tf.ones_like(mean) if layer.gamma is None else tf.convert_to_tensor(layer.gamma)
    beta = tf.zeros_like(mean) if layer.beta is None else tf.convert_to_tensor(layer.beta)
    outputs, batch_mean, unbiased = _normalized(inputs, gamma, beta, layer.epsilon)
    values = tf.cast(tf.size(inputs, tf.int64) // inputs.shape[-1], tf.float32)
    variance = unbiased * (tf.maximum(values - 1, 1) / values)
    for moving, of_batch in ((layer.moving_mean, batch_mean), (layer.moving_variance, variance)):
        moving.assign(moving * layer.momentum + of_batch * (1 - layer.momentum))
    return outputs


def _normalized(inputs: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
    """Return normalised inputs, and the mean and the unbiased variance, which have no gradient.

    TensorFlow's gradient of the gradient of this kernel is wrong with respect to the inputs: by 1% for random values,
    and by up to 90% behind a convolution.
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def forward(inputs: Any, gamma: Any, beta: Any) -> Any:
        outputs, mean, variance, *kept = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=gamma, offset=beta, mean=[], variance=[], epsilon=epsilon, is_training=True
        )
        return (outputs, mean, variance), lambda upstream, *_: backward(upstream, inputs, gamma, *kept)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def backward(upstream: Any, inputs: Any, gamma: Any, *kept: Any) -> Any:
        spaces = {f"reserve_space_{number}": each for number, each in enumerate(kept, start=1)}
        found = tf.raw_ops.FusedBatchNormGradV3(
            y_backprop=upstream, x=inputs, scale=gamma, **spaces, epsilon=epsilon, is_training=True
        )

        def again(*further: Any) -> Any:
            with tf.GradientTape() as outer:
                outer.watch((upstream, inputs, gamma))
                given, above = tf.cast(inputs, tf.float32), tf.cast(upstream, tf.float32)
                with tf.GradientTape() as tape:
                    tape.watch((given, gamma))
                    moments = tf.nn.moments(given, [0, 1, 2])
                    plain = tf.nn.batch_normalization(given, *moments, None, gamma, epsilon)
                by_inputs, by_gamma = tape.gradient(plain, (given, gamma), above)
                gradients = tf.cast(by_inputs, inputs.dtype), by_gamma, tf.reduce_sum(above, [0, 1, 2])
            return *outer.gradient(gradients, (upstream, inputs, gamma), further), *[None for _ in kept]

        return tuple(found[:3]), again

    return forward(inputs, gamma, beta)
