"""Dynamic loss scaling, which keeps small float16 gradients from underflowing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

FIRST_SCALE = 2.0**15
GROW_AFTER = 2000
"""Consecutive updates with finite gradients after which the scale is doubled."""


class LossScale:
    """A dynamic factor on the loss in the backward pass. The gradients are divided by it afterwards.

    An update with non-finite gradients is skipped and the scale is halved. After `GROW_AFTER` consecutive updates, the
    scale is doubled. All scales are powers of two, so scaling and unscaling are exact.

    Source: Micikevicius et al., "Mixed Precision Training", ICLR 2018, section 3.2.
    """

    def __init__(self) -> None:
        self.scale = tf.Variable(FIRST_SCALE, trainable=False, name="scale")
        self.good = tf.Variable(0, trainable=False, name="good_updates")

    @property
    def variables(self) -> list[Any]:
        """The scale and the count of good updates."""
        return [self.scale, self.good]

    def scaled(self, loss: Any) -> Any:
        """Return the loss to differentiate."""
        return loss * self.scale

    def unscaled(self, gradients: list[Any]) -> list[Any]:
        """Return the gradients of the unscaled loss; None stays None."""
        return [None if each is None else keras.ops.divide(each, tf.cast(self.scale, each.dtype)) for each in gradients]

    def guarded(self, finite: Any, update: Callable[[], None]) -> None:
        """Perform an update if its gradients are `finite` (a boolean scalar), and adapt the scale."""

        def make() -> None:
            update()
            good = self.good.assign_add(1)
            grows = good >= GROW_AFTER
            self.scale.assign(tf.where(grows, self.scale * 2, self.scale))
            self.good.assign(tf.where(grows, 0, good))

        def skip() -> None:
            self.scale.assign(tf.maximum(self.scale / 2, 1.0))
            self.good.assign(0)

        tf.cond(finite, make, skip)
