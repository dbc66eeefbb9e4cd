"""Gradient clipping, applied to the gradient of a whole optimizer update."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from aipcore.hooks.records import OptimizerParams

SLICES = 32
"""Slices of a gradient whose squares are added element by element before the rest is summed."""

LARGE = 2**14
"""Minimum number of elements of a gradient that is sliced."""

MOST_SLICED = 16
"""Maximum number of sliced gradients, the largest ones; each adds `SLICES` operations to the compiled graph."""


def clips(params: OptimizerParams) -> bool:
    """Return True if any limit is set."""
    return any(limit is not None for limit in (params.clip_value, params.clip_norm, params.clip_global_norm))


def clip(gradients: list[Any], params: OptimizerParams, *, sliced: bool = False) -> list[Any]:
    """Clip by value, then by the norm of each variable, then by the global norm: each if set.

    Gradients keep their shapes and dtypes. A norm below its limit leaves the gradient unchanged. An infinite or NaN
    norm turns everything that it would scale into NaN, as in `tf.clip_by_global_norm`.

    Args:
        gradients: one for each variable.
        params: the limits.
        sliced: if True, sum in slices. XLA on a CPU adds floats one after the other, at a few cycles each; adding
            slices first lets it use vector instructions. TensorFlow's own kernels do not need this.
    """
    if params.clip_value is not None:
        gradients = [tf.clip_by_value(g, -params.clip_value, params.clip_value) for g in gradients]
    if params.clip_norm is not None:
        limit = params.clip_norm
        squares = _squared_sums(gradients, sliced=sliced)
        gradients = [g * tf.cast(_scale(s, limit), g.dtype) for g, s in zip(gradients, squares, strict=True)]
    if params.clip_global_norm is not None:
        scale = _scale(tf.add_n(_squared_sums(gradients, sliced=sliced)), params.clip_global_norm)
        gradients = [g * tf.cast(scale, g.dtype) for g in gradients]
    return gradients


def _scale(squared_norm: Any, limit: float) -> Any:
    """Return the factor that reduces a norm to its limit: exactly 1 below it, NaN if the norm is not finite."""
    norm = tf.sqrt(squared_norm)
    scale = limit / tf.maximum(norm, limit)
    return tf.where(tf.math.is_finite(norm), scale, float("nan"))


def _squared_sums(gradients: list[Any], *, sliced: bool) -> list[Any]:
    """Return the sum of the squares of each gradient, a float32 scalar (float64 for float64)."""
    wide = [tf.cast(g, tf.float32) if g.dtype in (tf.float16, tf.bfloat16) else g for g in gradients]
    sizes = [int(g.shape.num_elements() or 0) for g in wide]
    largest = sorted((size for size in sizes if size >= LARGE), reverse=True)[:MOST_SLICED]
    least = largest[-1] if sliced and largest else None
    return [
        _sliced_sum(g, size) if least is not None and size >= least else tf.reduce_sum(g * g)
        for g, size in zip(wide, sizes, strict=True)
    ]


def _sliced_sum(gradient: Any, size: int) -> Any:
    flat = tf.reshape(gradient, [-1])
    length = size // SLICES
    squares = None
    for number in range(SLICES):
        part = flat[number * length : (number + 1) * length]
        squares = part * part if squares is None else squares + part * part
    rest = flat[SLICES * length :]
    return tf.reduce_sum(squares) + tf.reduce_sum(rest * rest)
