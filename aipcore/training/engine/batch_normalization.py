"""Batch normalisation in training by TensorFlow's fused kernel instead of Keras' single operations."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import tensorflow as tf

LEAST_EPSILON = 1.001e-5
"""cuDNN requires an epsilon of at least 1e-5."""


def use_fused_kernels(model: Any) -> None:
    """Let the batch normalisation layers of a model compute with TensorFlow's fused kernel while they train.

    Weights, names, configuration and inference stay those of Keras, and so does everything that is exported. Subclasses
    of the layer, synchronised layers, renormalisation and inputs other than `[batch, height, width, channels]` are left
    as they are.
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
    )


def _call(layer: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    """Return `(x - mean) / sqrt(variance + epsilon) * gamma + beta` over a batch, and update the moving statistics."""
    if not (training and layer.trainable) or mask is not None:
        return type(layer).call(layer, inputs, training=training, mask=mask)
    mean = tf.convert_to_tensor(layer.moving_mean)
    gamma = tf.ones_like(mean) if layer.gamma is None else tf.convert_to_tensor(layer.gamma)
    beta = tf.zeros_like(mean) if layer.beta is None else tf.convert_to_tensor(layer.beta)
    outputs, batch_mean, unbiased, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs, scale=gamma, offset=beta, mean=[], variance=[], epsilon=layer.epsilon, is_training=True
    )
    values = tf.cast(tf.size(inputs, tf.int64) // inputs.shape[-1], tf.float32)
    variance = unbiased * (tf.maximum(values - 1, 1) / values)
    for moving, of_batch in ((layer.moving_mean, batch_mean), (layer.moving_variance, variance)):
        moving.assign(moving * layer.momentum + of_batch * (1 - layer.momentum))
    return outputs
