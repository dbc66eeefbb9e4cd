"""The learning rate of a run: the schedule, times a factor that callbacks may change."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


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
