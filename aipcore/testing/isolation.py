"""Isolation of checks: resets the Keras state of this process, so that checks do not depend on each other."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import keras


def start_anew(seed: int = 7) -> None:
    """Clear Keras' names and policies, and seed all generators."""
    keras.utils.clear_session(free_memory=False)
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(seed)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide warnings that are irrelevant here: the checks compile many small functions on purpose."""
    loggers = {logging.getLogger(name): logging.ERROR for name in ("tensorflow", "aipcore.callbacks", "absl")}
    before = {logger: logger.level for logger in loggers}
    for logger, level in loggers.items():
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)
