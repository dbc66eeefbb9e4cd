"""The callbacks that decide how often the loop must return."""

from __future__ import annotations

from typing import Any

import keras

TRAIN_HOOKS = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
TEST_HOOKS = ("on_test_batch_begin", "on_test_batch_end")


def wants_batches(callback: Any) -> bool:
    """Return whether a callback must be called for every single training batch.

    It overrides a batch hook, in its class or on the instance, and does not accept chunks.
    """
    if isinstance(callback, keras.callbacks.ModelCheckpoint) and callback.save_freq == "epoch":
        # Its own hook does nothing then; that of a subclass counts.
        idle = keras.callbacks.ModelCheckpoint.on_train_batch_end
        overridden = [hook for hook in _overridden(callback, TRAIN_HOOKS) if _function(callback, hook) is not idle]
    else:
        overridden = _overridden(callback, TRAIN_HOOKS)
    return bool(overridden) and not getattr(callback, "accepts_chunks", False)


def wants_test_batches(callback: Any) -> bool:
    """Return whether a callback has a hook for the batches of the validation."""
    return bool(_overridden(callback, TEST_HOOKS))


def _overridden(callback: Any, hooks: tuple[str, ...]) -> list[str]:
    return [hook for hook in hooks if _function(callback, hook) is not getattr(keras.callbacks.Callback, hook)]


def _function(callback: Any, hook: str) -> Any:
    method = getattr(callback, hook)
    return getattr(method, "__func__", method)
