"""When what is shown every few epochs is shown."""

from __future__ import annotations

from typing import Any

from aipcore.training.context import RunContext


def is_due(callback: Any, context: RunContext, epoch: int, every: int) -> bool:
    """Whether it is time: in the first epoch, the last one, and every `every` epochs; `epoch` counts from 0."""
    last = epoch + 1 == context.horizon.epochs or callback.model.stop_training
    return bool(last or epoch == 0 or (epoch + 1) % every == 0)
