"""Importing TensorFlow without its start-up notices."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


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
    with _held_back_stderr():
        _import()


def _import() -> None:
    import tensorflow as tf

    tf.config.list_physical_devices()


@contextmanager
def _held_back_stderr() -> Iterator[None]:
    # The notices come from C++, below sys.stderr: only the file descriptor catches them.
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
