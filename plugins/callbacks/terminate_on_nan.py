"""A callback that ends a run whose loss is not finite."""

from __future__ import annotations

import logging
import math
from typing import Any

import keras
from aip_plugins.callbacks.params import TerminateOnNaNParams

from aipcore.training.callbacks.context import RunContext

logger = logging.getLogger("aipcore.callbacks")


class TerminateOnNaN(keras.callbacks.Callback):
    """An end of training when the mean loss of the current epoch is infinite or NaN.

    A mean that is NaN stays NaN, so one check per chunk misses nothing.
    """

    accepts_chunks = True

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Check the loss after a chunk."""
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss) and not self.model.stop_training:
            logger.warning("The loss is %s after batch %d. Training stops.", loss, batch + 1)
            self.model.stop_training = True


def build(params: TerminateOnNaNParams, context: RunContext) -> TerminateOnNaN:
    """Return the callback."""
    del params, context
    return TerminateOnNaN()
