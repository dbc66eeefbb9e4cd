"""Gradient clipping, applied to the gradient of a whole optimizer update."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from aipcore.hooks.kinds import OptimizerParams


def clip(gradients: list[Any], params: OptimizerParams) -> list[Any]:
    """Clips by value, then by the norm of each variable, then by the joint norm: each if set.

    Gradients keep their shapes and dtypes. A norm below its limit leaves the gradient as it is.
    """
    if params.clip_value is not None:
        gradients = [tf.clip_by_value(g, -params.clip_value, params.clip_value) for g in gradients]
    if params.clip_norm is not None:
        gradients = [tf.clip_by_norm(g, params.clip_norm) for g in gradients]
    if params.clip_global_norm is not None:
        gradients, _ = tf.clip_by_global_norm(gradients, params.clip_global_norm)
    return gradients
