"""The learning rate of a run: its schedule, the length of the run, and a factor that callbacks may change."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import keras
import numpy as np
import tensorflow as tf

from aipcore.errors import TrainingError


@attrs.frozen(kw_only=True)
class Horizon:
    """The length of a run.

    Attributes:
        updates_per_epoch: optimizer updates in one epoch, at least 1.
        epochs: epochs in the run, at least 1.
    """

    updates_per_epoch: int
    epochs: int

    @property
    def total_updates(self) -> int:
        """Optimizer updates in the whole run."""
        return self.updates_per_epoch * self.epochs


def is_due(epoch: int, every: int, last: bool, first: int = 1) -> bool:
    """Return whether to run in this epoch what runs every so many epochs, and in the first and the last one.

    Args:
        epoch: counted from 0.
        every: how many epochs from one time to the next; 0: never.
        last: whether this is the last epoch.
        first: the epoch, counted from 1, before which it never runs.
    """
    if not every or epoch + 1 < first:
        return False
    return last or epoch == 0 or (epoch + 1) % every == 0


@keras.saving.register_keras_serializable(package="aip")
class ScaledSchedule(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """`schedule(step) * scale`, where `scale` is a float32 variable that starts at 1 and belongs to the run's state."""

    def __init__(self, schedule: Any) -> None:
        self.schedule = schedule
        self.scale = tf.Variable(1.0, trainable=False, name="learning_rate_scale")

    def __call__(self, step: Any) -> Any:
        """The learning rate, a float32 scalar, of the optimizer update number `step`."""
        return tf.cast(self.schedule(step), tf.float32) * self.scale

    def get_config(self) -> dict[str, Any]:
        """The wrapped schedule; the scale is state, not configuration."""
        return {"schedule": keras.saving.serialize_keras_object(self.schedule)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ScaledSchedule:
        """Rebuilds the schedule from `get_config`."""
        return cls(keras.saving.deserialize_keras_object(config["schedule"]))


@keras.saving.register_keras_serializable(package="aip")
class CurrentRate:
    """The learning rate of an optimizer at its next update, which can be set.

    An optimizer of Keras with a schedule refuses `optimizer.learning_rate = 0.01`, as `ReduceLROnPlateau` and
    `LearningRateScheduler` do it. With this in the schedule's place, the assignment reaches `assign`.

    Args:
        schedule: gives the rate.
        optimizer: counts the updates.
    """

    def __init__(self, schedule: ScaledSchedule, optimizer: Any) -> None:
        self.schedule = schedule
        self.optimizer = optimizer

    def __call__(self, step: Any = None) -> Any:
        """Return the rate, a float32 scalar, of the next update or of the update number `step`."""
        return self.schedule(self.optimizer.iterations if step is None else step)

    def assign(self, value: Any) -> None:
        """Set the rate of the next update; the schedule continues from there in proportion.

        Raises:
            TrainingError: the value is not a rate, or the schedule is 0 at this update.
        """
        rate = float(value)
        if not (math.isfinite(rate) and rate >= 0):
            raise TrainingError(f"The learning rate cannot be set to {rate:g}. Give a finite number from 0 up.")
        if np.float32(rate) == np.float32(self()):
            return
        scheduled = np.float32(self.schedule.schedule(self.optimizer.iterations))
        if scheduled == 0:
            raise TrainingError(
                f"The learning rate cannot be set to {rate:g}, because the schedule is 0 at update "
                f"{int(self.optimizer.iterations)}. Use --learning_rate Constant."
            )
        scale = np.float32(rate / float(scheduled))
        if scheduled * scale > np.float32(rate):
            # Never above: a lower bound, as of ReduceLROnPlateau, has to count as reached.
            scale = np.nextafter(scale, np.float32(0))
        self.schedule.scale.assign(scale)

    def get_config(self) -> dict[str, Any]:
        """That of the schedule."""
        return self.schedule.get_config()

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ScaledSchedule:
        """Rebuild the schedule, which a loaded optimizer uses directly."""
        return ScaledSchedule.from_config(config)


def make_settable(optimizer: Any, schedule: ScaledSchedule) -> None:
    """Let `optimizer.learning_rate` be assigned, if it is this schedule and not what a plugin made of it."""
    if getattr(optimizer, "_learning_rate", None) is schedule:
        optimizer.learning_rate = CurrentRate(schedule, optimizer)


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
