"""The schedule of displays every few epochs."""

from __future__ import annotations

from typing import Any

from aipcore.training.callbacks.context import RunContext
from aipcore.training.engine.learning_rate import is_due


def due(callback: Any, context: RunContext, epoch: int, every: int) -> bool:
    """Return True in the first epoch, the last one, and every `every` epochs; `epoch` counts from 0."""
    last = epoch + 1 == context.horizon.epochs or bool(callback.model.stop_training)
    return is_due(epoch, every, last)
