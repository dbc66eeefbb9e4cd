"""The state of callbacks in checkpoints: callbacks with `get_state` and `set_state`, and Keras' own without them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from aipcore.errors import TrainingError

PREFIX = "callbacks/"
"""Prefix of the names of arrays that belong to callbacks."""

ARRAY_KEY = "__array__"
"""Key that marks an array in the JSON values; its value is the array's name."""

KERAS_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "EarlyStopping": ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    "ReduceLROnPlateau": ("best", "wait", "cooldown_counter"),
    "History": ("epoch", "history"),
    "TensorBoard": ("_global_train_batch", "_global_test_batch"),
    "ModelCheckpoint": ("best", "epochs_since_last_save", "_batches_seen_since_last_saving", "_last_batch_seen"),
}
"""The attributes that make up the state of each Keras callback. CSVLogger has its file in addition."""

COLLECTIONS = ("best_weights", "epoch", "history")
"""Those of these attributes that are not numbers."""

CSV_CELL = re.compile(r'[-+.,\deEinfaNA\[\]" ]*')
"""A value of a CSVLogger: a number, NA, or several of these in brackets."""

Arrays = dict[str, npt.NDArray[Any]]


def get_state(name: str, callback: Any) -> tuple[Any, Arrays]:
    """Return the state of a callback as JSON values, and its arrays by name; `(None, {})` without a state.

    Raises:
        TrainingError: the state holds something other than JSON values and arrays.
    """
    arrays: Arrays = {}
    state = callback.get_state() if hasattr(callback, "get_state") else _keras_state(callback)
    try:
        return taken_apart(state, f"{PREFIX}{name}/", arrays), arrays
    except TypeError as error:
        raise TrainingError(
            f"The state of the callback {name} contains a value of type {error}. "
            "get_state() must return None, numbers, text, lists, mappings with text keys, or NumPy arrays."
        ) from error


def set_state(name: str, callback: Any, state: Any, arrays: Mapping[str, Any]) -> None:
    """Restore the state of a callback. Call this after `on_train_begin`, in which Keras' callbacks reset theirs.

    Raises:
        TrainingError: an array is missing, or the callback rejects the state.
    """
    if state is None:
        return
    try:
        state = put_together(state, arrays)
        if hasattr(callback, "set_state"):
            callback.set_state(state)
        else:
            _set_keras_state(callback, state)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise TrainingError(
            f"The callback {name} cannot restore its saved state ({type(error).__name__}: {error}). "
            "Resume with other --callbacks, or with the version of its plugin that saved the state."
        ) from error


def _keras_kind(callback: Any) -> str:
    """Return the Keras class that a callback is or extends, if its state is known; else an empty string."""
    for cls in type(callback).__mro__:
        if cls.__name__ in ("CSVLogger", *KERAS_ATTRIBUTES) and cls is getattr(keras.callbacks, cls.__name__):
            return str(cls.__name__)
    return ""


def _keras_state(callback: Any) -> Any:
    kind = _keras_kind(callback)
    if not kind:
        return None
    if kind == "CSVLogger":
        if callback.csv_file is None or callback.csv_file.closed:
            return None
        callback.csv_file.flush()
        with keras.src.utils.file_utils.File(callback.filename, "r") as file:
            return {"keys": callback.keys, "text": file.read()}
    return {each: getattr(callback, each) for each in KERAS_ATTRIBUTES[kind] if hasattr(callback, each)}


def _set_keras_state(callback: Any, state: Mapping[str, Any]) -> None:
    kind = _keras_kind(callback)
    if kind == "CSVLogger":
        _check_csv(state["text"], state["keys"], callback.sep)
        file = callback.csv_file
        file.seek(0)
        file.truncate()
        file.write(state["text"])
        file.flush()
        callback.keys, callback.writer, callback.append_header = state["keys"], None, not state["text"]
        return
    for each in KERAS_ATTRIBUTES.get(kind, ()):
        if each in state:
            if each not in COLLECTIONS and not isinstance(state[each], int | float | np.ndarray | np.generic | None):
                raise ValueError(f"{each} is {type(state[each]).__name__}, not a number")
            setattr(callback, each, state[each])


def _check_csv(text: Any, keys: Any, separator: str) -> None:
    """Reject text other than a table of numbers: a checkpoint may be untrusted, and the text is written to a file."""
    if not isinstance(text, str) or not isinstance(keys, list | None):
        raise ValueError("it is not the table of a CSVLogger")
    header, *rows = [line.split(separator) for line in text.splitlines()] or [[]]
    if header and (header != ["epoch", *(keys or [])] or not "".join(header).isprintable()):
        raise ValueError("the columns of its table are not epoch and the names of values")
    for row in rows:
        if any(not CSV_CELL.fullmatch(cell) for cell in row):
            raise ValueError("its table contains values other than numbers")


def taken_apart(value: Any, prefix: str, arrays: Arrays) -> Any:
    """Return a copy as JSON values. Arrays are added to `arrays`, and their names, which begin with `prefix`, remain.

    Raises:
        TypeError: a value is of another type, which the text names.
    """
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, np.generic)):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: taken_apart(item, prefix, arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [taken_apart(item, prefix, arrays) for item in value]
    if isinstance(value, np.ndarray | np.generic) and value.dtype != object:
        key = f"{prefix}{len(arrays)}"
        arrays[key] = np.array(value)
        return {ARRAY_KEY: key}
    raise TypeError(type(value).__name__)


def put_together(value: Any, arrays: Mapping[str, Any]) -> Any:
    """Return a value with the arrays that `taken_apart` named.

    Raises:
        KeyError: an array is missing.
    """
    if isinstance(value, Mapping):
        if set(value) == {ARRAY_KEY}:
            array = arrays[value[ARRAY_KEY]]
            return array[()] if array.ndim == 0 else array
        return {key: put_together(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [put_together(item, arrays) for item in value]
    return value
