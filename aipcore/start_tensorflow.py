"""Import of TensorFlow without its start-up notices."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

KERAS_STATE = threading.RLock()
"""Lock for creating and training a run: Keras' seeds, names and dtype policy are global."""

KERNELS = {"Eigen": "0", "oneDNN": "1"}
"""Libraries of CPU kernels, whose results differ in the last bits, with their values of `TF_ENABLE_ONEDNN_OPTS`."""


@contextmanager
def held_back_stderr(*, forget: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Buffer standard error, and print it only if the body fails.

    Native code bypasses `sys.stderr`, so the file descriptor is redirected. Output of other threads is buffered too, so
    keep the body short.

    Args:
        forget: exceptions whose message is complete; the buffered output is dropped.
    """
    if sys.stderr is None:  # A program without a terminal, such as `pythonw`, has no standard error to protect.
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
    """Import TensorFlow and find its devices, without the notices about missing GPUs and instruction sets.

    TensorFlow writes these notices before it reads any log level. They are shown only if the import fails.

    Args:
        verbose: if True, show all notices.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    # TensorFlow itself uses oneDNN only on CPUs with AVX512-VNNI or later instructions.
    prefer_kernels("oneDNN")
    with _late_interrupt():
        if verbose:
            _import()
            return
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with held_back_stderr():
            _import()


def prefer_kernels(name: Any) -> None:
    """Choose the kernels of a run, unless the environment chooses others or TensorFlow is already imported.

    Args:
        name: one of `KERNELS`; other values of a record are ignored.
    """
    if name in KERNELS:
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", KERNELS[name])


def used_kernels() -> str:
    """Return the name of the kernels that TensorFlow uses."""
    # No public function returns it, and the environment does not tell the default.
    from tensorflow.python.util import _pywrap_util_port

    return "oneDNN" if _pywrap_util_port.IsMklEnabled() else "Eigen"


def reset_keras(seed: int, policy: str) -> None:
    """Reset Keras' names, seeds and dtype policy to those of the beginning of a run."""
    import keras

    # Checkpoints use the names of variables, so these must not depend on other models built in this process.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed % 2**32)
    keras.config.set_dtype_policy(policy)


@contextmanager
def _late_interrupt() -> Iterator[None]:
    """Delay the first Ctrl-C to the end of the context. Raise a second one immediately.

    Native code that calls Python during its import would lose an exception raised by a signal.
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
