"""A schedule of phases: rise, plateau, fall. All built-in schedules are special cases."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

ROUNDING = 1e-9
"""Far above the rounding errors of float64, and far below the length of one update relative to a fall."""


@keras.saving.register_keras_serializable(package="aip")
class PhasedSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """`lr` times a factor that depends only on the time in epochs.

    For a time e in epochs, the factor is

    - rising, e < warmup:   warmup_fraction + (1 - warmup_fraction) * e / warmup
    - constant, for `constant` epochs: 1
    - falling, for the time t since then:
        "none"          1
        "exponential"   max(decay^(t / length), min_fraction); with `staircase`, t / length is rounded down
        "cosine"        min_fraction + (1 - min_fraction) * (1 + cos(pi * min(1, t / length))) / 2
        "inverse_sqrt"  sqrt(warmup / e)

    The step is an integer. Whole epochs and the rest are separated in integers, so long runs lose no precision.
    The result is a float32 scalar, computed in float64.

    Args:
        lr: the rate at factor 1.
        updates_per_epoch: optimizer updates in an epoch.
        fall: the kind of fall, one of the above.
        warmup, warmup_fraction, constant, decay, min_fraction, length, staircase: see above; times in epochs.
    """

    def __init__(
        self,
        lr: float,
        updates_per_epoch: int,
        *,
        fall: str = "none",
        warmup: float = 0.0,
        warmup_fraction: float = 0.0,
        constant: float = 0.0,
        decay: float = 1.0,
        min_fraction: float = 0.0,
        length: float = 1.0,
        staircase: bool = False,
    ) -> None:
        self.config = {
            "lr": lr,
            "updates_per_epoch": updates_per_epoch,
            "fall": fall,
            "warmup": warmup,
            "warmup_fraction": warmup_fraction,
            "constant": constant,
            "decay": decay,
            "min_fraction": min_fraction,
            "length": length,
            "staircase": staircase,
        }
        self.lr = lr
        self.updates_per_epoch = updates_per_epoch
        self.fall = fall
        self.warmup = warmup
        self.warmup_fraction = warmup_fraction
        self.constant = constant
        self.decay = decay
        self.min_fraction = min_fraction
        self.length = length
        self.staircase = staircase

    def __call__(self, step: Any) -> Any:
        """Return the rate for the optimizer update number `step` (an integer scalar, counted from 0)."""
        step = tf.cast(tf.convert_to_tensor(step), tf.int64)
        per_epoch = tf.constant(self.updates_per_epoch, tf.int64)
        time = tf.cast(step // per_epoch, tf.float64) + tf.cast(step % per_epoch, tf.float64) / self.updates_per_epoch
        factor = self._falling(time)
        if self.warmup > 0:
            rising = self.warmup_fraction + (1 - self.warmup_fraction) * time / self.warmup
            factor = tf.where(time < self.warmup, rising, factor)
        return tf.cast(self.lr * factor, tf.float32)

    def _falling(self, time: Any) -> Any:
        since = tf.maximum(time - self.warmup - self.constant, 0.0)
        if self.fall == "exponential":
            times = since / self.length
            if self.staircase:
                # A fractional length can leave times a rounding error below whole numbers.
                times = tf.floor(times + ROUNDING)
            return tf.maximum(tf.exp(math.log(self.decay) * times), self.min_fraction)
        if self.fall == "cosine":
            part = tf.minimum(since / self.length, 1.0)
            return self.min_fraction + (1 - self.min_fraction) * 0.5 * (1 + tf.cos(math.pi * part))
        if self.fall == "inverse_sqrt":
            return tf.sqrt(self.warmup / tf.maximum(time, self.warmup))
        return tf.ones_like(time)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return dict(self.config)
