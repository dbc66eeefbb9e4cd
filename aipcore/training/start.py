"""Importing TensorFlow without its start-up notices."""

from __future__ import annotations

import os

from aipcore.training.quiet import held_back_stderr


def import_tensorflow(*, verbose: bool = False) -> None:
    """Imports TensorFlow and finds its devices, keeping notices about missing GPUs and instruction sets to itself.

    They are written before any log level is heeded, and help nobody who trains on what there is. If the import fails,
    they are shown.

    Args:
        verbose: show everything.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if verbose:
        _import()
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with held_back_stderr():
        _import()


def _import() -> None:
    import tensorflow as tf

    tf.config.list_physical_devices()
