"""Puts Keras' state of this process back to its beginnings, so that no check depends on another."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import keras


def start_anew(seed: int = 7) -> None:
    """Forgets names and policies, and seeds every generator."""
    keras.utils.clear_session(free_memory=False)
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(seed)


@contextmanager
def quiet() -> Iterator[None]:
    """Holds back what is only worth a warning in a run: many small functions are compiled on purpose."""
    loggers = {logging.getLogger(name): logging.ERROR for name in ("tensorflow", "aipcore.callbacks", "absl")}
    before = {logger: logger.level for logger in loggers}
    for logger, level in loggers.items():
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)
