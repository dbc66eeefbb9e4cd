"""The learning rate over a run, as its schedule computes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from aipcore.training.horizon import Horizon


def learning_rates(
    build: Callable[[Any, Horizon], Any], params: Any, horizon: Horizon
) -> tuple[list[float], list[float]]:
    """Evaluates a schedule at every optimizer update of a run, the end included.

    Args:
        build: the schedule plugin's.
        params: its parameters.
        horizon: the length of the run.

    Returns:
        the times in epochs, and the learning rates at these times.
    """
    schedule = build(params, horizon)
    steps = tf.range(horizon.total_updates + 1)
    # One by one, as in training: a plugin's schedule need not take vectors.
    rates = tf.map_fn(lambda step: tf.cast(schedule(step), tf.float32), steps, fn_output_signature=tf.float32)
    return [int(step) / horizon.updates_per_epoch for step in steps], [float(rate) for rate in rates]
