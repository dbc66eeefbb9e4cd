"""Which callbacks decide how often the loop must return."""

from __future__ import annotations

from typing import Any

import keras

HOOKS = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")


def wants_batches(callback: Any) -> bool:
    """Whether a callback must hear of every single batch: it overrides a batch hook and does not accept chunks."""
    overrides = any(getattr(type(callback), hook) is not getattr(keras.callbacks.Callback, hook) for hook in HOOKS)
    return overrides and not getattr(callback, "accepts_chunks", False)
