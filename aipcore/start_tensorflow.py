"""Importing TensorFlow without its start-up notices."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

KERAS_STATE = threading.RLock()
"""Held while a run is made and while it trains: Keras' seeds, names and dtype policy are global."""


@contextmanager
def held_back_stderr(*, forget: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Holds back what is written to standard error, and shows it only if the body fails.

    Native code writes below `sys.stderr`: only the file descriptor catches it. What other threads write meanwhile is
    held back too, so let the body be short.

    Args:
        forget: with these exceptions it is not shown either: they say it all.
    """
    if sys.stderr is None:  # A program without a terminal, such as `pythonw`, has nobody to keep notices from.
        yield
        return
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except forget:
            raise
        except BaseException:
            held.seek(0)
            with suppress(OSError):
                os.write(saved, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)


def import_tensorflow(*, verbose: bool = False) -> None:
    """Imports TensorFlow and finds its devices, keeping notices about missing GPUs and instruction sets to itself.

    They are written before any log level is heeded, and help nobody who trains on what there is. If the import fails,
    they are shown.

    Args:
        verbose: show everything.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    with _late_interrupt():
        if verbose:
            _import()
            return
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with held_back_stderr():
            _import()


@contextmanager
def _late_interrupt() -> Iterator[None]:
    """Raise the first Ctrl-C at the end of the context, and a second one immediately.

    Native code that calls Python while it is imported loses an exception that a signal raises there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        noted.append(number)
        if len(noted) > 1:
            raise KeyboardInterrupt

    previous = signal.getsignal(signal.SIGINT)
    if previous is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if noted:
        raise KeyboardInterrupt


def _import() -> None:
    import tensorflow as tf

    tf.config.list_physical_devices()
