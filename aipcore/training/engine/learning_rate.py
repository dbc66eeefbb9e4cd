"""The learning rate of a run: its schedule, the length of the run, and a factor that callbacks can change."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

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
        epochs: epochs in the run, at least 1; the last one may be incomplete.
        max_updates: the most optimizer updates in the run, or None.
    """

    updates_per_epoch: int
    epochs: int
    max_updates: int | None = None

    @property
    def total_updates(self) -> int:
        """Optimizer updates in the whole run."""
        updates = self.updates_per_epoch * self.epochs
        return updates if self.max_updates is None else min(updates, self.max_updates)

    def repeated(self, times: int) -> Horizon:
        """Return the length of a run that makes each update several times."""
        most = None if self.max_updates is None else self.max_updates * times
        return Horizon(updates_per_epoch=self.updates_per_epoch * times, epochs=self.epochs, max_updates=most)

    def after(self, updates: int) -> Horizon:
        """Return the length of the run without its first `updates` updates; if negative, with as many more."""
        left = max(self.total_updates - updates, 1)
        return Horizon(
            updates_per_epoch=self.updates_per_epoch, epochs=-(-left // self.updates_per_epoch), max_updates=left
        )

    @property
    def length(self) -> float:
        """The length of the run in epochs. It is a fraction if the last epoch is incomplete."""
        return self.total_updates / self.updates_per_epoch


def is_due(epoch: int, every: int, last: bool, first: int = 1) -> bool:
    """Return True in the first epoch, in the last epoch, and in every `every`-th epoch.

    Args:
        epoch: counted from 0.
        every: number of epochs from one time to the next; 0: never.
        last: True for the last epoch.
        first: the first epoch, counted from 1, for which True may be returned.
    """
    if not every or epoch + 1 < first:
        return False
    return last or epoch == 0 or (epoch + 1) % every == 0


@keras.saving.register_keras_serializable(package="aip")
class ShiftedSchedule(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """`schedule(max(step - shift, 0))`.

    Args:
        schedule: a function of an int64 scalar.
        shift: the number of updates before the schedule begins. If negative, its first `-shift` updates are skipped.
    """

    def __init__(self, schedule: Any, shift: int) -> None:
        self.schedule = schedule
        self.shift = shift

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of the optimizer update with index `step`."""
        return self.schedule(tf.maximum(tf.cast(tf.convert_to_tensor(step), tf.int64) - self.shift, 0))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "shift": self.shift}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ShiftedSchedule:
        """Rebuild the schedule from `get_config`."""
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["shift"])


FARTHEST: Final = 2**40
"""Updates by which a schedule can be shifted. More has the same effect in any run, and could exceed int64."""


def build_schedule(build: Callable[[Any, Horizon], Any], params: Any, horizon: Horizon) -> Any:
    """Build the schedule of a plugin, shifted by its `offset_epochs`, which are rounded to whole updates.

    `build` gets `offset_epochs = 0` and the length of the rest of the run. A schedule that ends with the run thus still
    does, and a plugin that shifts its schedule by `offset_epochs` itself does not shift it twice.

    Args:
        build: the build function of the plugin.
        params: the plugin's parameters, a `ScheduleParams`.
        horizon: the length of the run.
    """
    if not params.offset_epochs:
        return build(params, horizon)
    updates = params.offset_epochs * horizon.updates_per_epoch
    shift = round(min(max(updates, -FARTHEST), FARTHEST))
    return ShiftedSchedule(build(attrs.evolve(params, offset_epochs=0.0), horizon.after(shift)), shift)


@keras.saving.register_keras_serializable(package="aip")
class ScaledSchedule(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """`schedule(step) * scale`, where `scale` is a float32 variable that starts at 1 and is part of the run's state.

    All schedules of a run share one scale.
    """

    def __init__(self, schedule: Any, scale: Any = None) -> None:
        self.schedule = schedule
        self.scale = tf.Variable(1.0, trainable=False, name="learning_rate_scale") if scale is None else scale

    def __call__(self, step: Any) -> Any:
        """Return the learning rate, a float32 scalar, of the optimizer update with index `step`."""
        return tf.cast(self.schedule(step), tf.float32) * self.scale

    def get_config(self) -> dict[str, Any]:
        """Return the wrapped schedule; the scale is state, not configuration."""
        return {"schedule": keras.saving.serialize_keras_object(self.schedule)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ScaledSchedule:
        """Rebuild the schedule from `get_config`."""
        return cls(keras.saving.deserialize_keras_object(config["schedule"]))


@keras.saving.register_keras_serializable(package="aip")
class CurrentRate:
    """The learning rate of an optimizer at its next update. It can be assigned.

    A Keras optimizer with a schedule rejects `optimizer.learning_rate = 0.01`, as done by `ReduceLROnPlateau` and
    `LearningRateScheduler`. With this object in place of the schedule, the assignment calls `assign`.

    Args:
        schedule: provides the rate.
        optimizer: counts the updates.
    """

    def __init__(self, schedule: ScaledSchedule, optimizer: Any) -> None:
        self.schedule = schedule
        self.optimizer = optimizer

    def __call__(self, step: Any = None) -> Any:
        """Return the rate, a float32 scalar, of the next update or of the update with index `step`."""
        return self.schedule(self.optimizer.iterations if step is None else step)

    def assign(self, value: Any) -> None:
        """Set the rate of the next update; the schedule continues from there in proportion.

        Raises:
            TrainingError: the value is not a rate, or the schedule is 0 at this update.
        """
        rate = float(value)
        if not (math.isfinite(rate) and rate >= 0):
            raise TrainingError(f"The learning rate cannot be set to {rate:g}. Use a finite number of at least 0.")
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
            # Never round up: a lower bound, such as that of ReduceLROnPlateau, must count as reached.
            scale = np.nextafter(scale, np.float32(0))
        self.schedule.scale.assign(scale)

    def get_config(self) -> dict[str, Any]:
        """Return the configuration of the schedule."""
        return self.schedule.get_config()

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ScaledSchedule:
        """Rebuild the schedule, which a loaded optimizer uses directly."""
        return ScaledSchedule.from_config(config)


def last_rate(optimizer: Any) -> float:
    """Return the learning rate of the optimizer's last update; before the first update, the rate of that one."""
    return float(rate_before(optimizer, tf.constant(int(optimizer.iterations.numpy()), tf.int64)))


def rate_before(optimizer: Any, updates: Any) -> Any:
    """Return the learning rate of the last of `updates` updates, an int64 scalar; also within a compiled function."""
    rate = optimizer._learning_rate
    if isinstance(rate, CurrentRate | keras.optimizers.schedules.LearningRateSchedule):
        rate = rate(tf.maximum(updates - 1, tf.constant(0, tf.int64)))
    return rate


def make_settable(optimizer: Any, schedule: ScaledSchedule) -> None:
    """Make `optimizer.learning_rate` assignable, if it is this schedule and was not replaced by a plugin."""
    if getattr(optimizer, "_learning_rate", None) is schedule:
        optimizer.learning_rate = CurrentRate(schedule, optimizer)


def learning_rates(
    build: Callable[[Any, Horizon], Any], params: Any, horizon: Horizon
) -> tuple[list[float], list[float]]:
    """Evaluate a schedule at every optimizer update of a run, including the end.

    Args:
        build: the build function of the schedule plugin.
        params: the plugin's parameters.
        horizon: the length of the run.

    Returns:
        The times in epochs, and the learning rates at these times.
    """
    schedule = build_schedule(build, params, horizon)
    steps = tf.range(horizon.total_updates + 1)
    # One by one, as in training: a plugin's schedule may not support vectors.
    rates = tf.map_fn(lambda step: tf.cast(schedule(step), tf.float32), steps, fn_output_signature=tf.float32)
    return [int(step) / horizon.updates_per_epoch for step in steps], [float(rate) for rate in rates]
