"""Losses, metrics and learning rate at some updates, kept on the device during a call of the compiled loop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
import tensorflow as tf

from aipcore.scenario.replica_metrics import ReplicaMetrics
from aipcore.training.engine.learning_rate import rate_before
from aipcore.training.engine.update import AnyStepUpdate, OptimizerUpdate

logger = logging.getLogger("aipcore.training")

ROWS = 1024
"""The most logged updates in a call of the compiled loop."""


@attrs.frozen(kw_only=True)
class StepValues:
    """The values of a run at an update.

    Attributes:
        step: optimizer updates since the start of the run.
        logs: losses and metrics of the epoch so far, and the learning rate of the update.
    """

    step: int
    logs: dict[str, float]


class StepLog:
    """The values of the logged updates of a call, read once after the call.

    The compiled loop runs from one logged update to the next in an inner loop, so the steps between them cost nothing
    more. The values are those of `ReplicaMetrics.result`, on one replica.

    Args:
        metrics: the training metrics.
        updates: the updates of a step.
    """

    def __init__(self, metrics: ReplicaMetrics, updates: Sequence[AnyStepUpdate]) -> None:
        self._metrics = metrics
        self._optimizers = {each.rate_name: each.optimizer for each in updates if isinstance(each, OptimizerUpdate)}
        self._names = [*metrics.names, *self._optimizers]
        # int64: TensorFlow does not keep variables of int32 on a GPU.
        self._ends = tf.Variable(tf.zeros([ROWS], tf.int64), trainable=False, name="logged_steps")
        self._count = tf.Variable(tf.zeros([], tf.int64), trainable=False, name="logged_count")
        self._values = tf.Variable(tf.zeros([ROWS, len(self._names)]), trainable=False, name="logged_values")
        self._steps: list[int] = []

    def loop(self, body: Callable[[Any], Any], steps: Any) -> None:
        """Run `body` for the steps of a block, within the compiled loop, and keep the values after each logged one.

        Args:
            body: takes the index of a step, and returns a list of the next index.
            steps: the number of steps, an int32 scalar.
        """
        ends = tf.cast(self._ends.read_value(), tf.int32)
        count = tf.cast(self._count.read_value(), tf.int32)

        def segment(row: Any, step: Any) -> Any:
            logged = row < count
            end = tf.where(logged, ends[tf.minimum(row, ROWS - 1)], steps)
            (step,) = tf.while_loop(lambda step: step < end, body, [step], parallel_iterations=1)
            tf.cond(logged, lambda: self._keep(row), lambda: None)
            return row + 1, step

        start = (tf.constant(0), tf.constant(0))
        tf.while_loop(lambda row, step: (row < count) | (step < steps), segment, start, parallel_iterations=1)

    def after_single(self) -> None:
        """Keep the values after the only step of a block if it is logged, within the compiled step."""
        tf.cond(self._count > 0, lambda: self._keep(tf.constant(0)), lambda: None)

    def expect(self, steps: Sequence[int], ends: Sequence[int]) -> None:
        """Set the logged updates of the next call.

        Args:
            steps: the updates, counted over the run; at most `ROWS`.
            ends: for each, the steps of the block after which it is completed.
        """
        if not steps and not self._steps:
            return
        self._steps = list(steps)
        self._count.assign(len(steps))
        if ends:
            rows = np.zeros(ROWS, np.int64)
            rows[: len(ends)] = ends
            self._ends.assign(rows)

    def read(self) -> list[StepValues]:
        """Return the values of the last call."""
        if not self._steps:
            return []
        rows = self._values[: len(self._steps)].numpy().tolist()
        return [
            StepValues(step=step, logs=dict(zip(self._names, row, strict=True)))
            for step, row in zip(self._steps, rows, strict=True)
        ]

    def _keep(self, row: Any) -> None:
        values = [*self._metrics.sets[0].tensors().values(), *map(_rate, self._optimizers.values())]
        stacked = tf.stack([tf.cast(value, tf.float32) for value in values])
        self._values.scatter_nd_update([[row]], [stacked])


def _rate(optimizer: Any) -> Any:
    updates = tf.cast(tf.convert_to_tensor(optimizer.iterations), tf.int64)
    return tf.convert_to_tensor(rate_before(optimizer, updates))


def make_step_log(metrics: ReplicaMetrics, updates: Sequence[AnyStepUpdate]) -> StepLog | None:
    """Return the log of steps; None if a metric cannot be computed within a compiled function."""
    made = StepLog(metrics, updates)
    try:
        tf.function(made.after_single, autograph=False).get_concrete_function()
    except Exception as error:
        logger.info(
            "A metric cannot be computed within the compiled loop (%s), so a call ends at each logged update.",
            type(error).__name__,
        )
        return None
    return made
