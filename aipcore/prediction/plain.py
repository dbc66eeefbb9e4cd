"""Values of any kind as JSON's types."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def to_json(value: Any) -> Any:
    """A value of JSON's types: arrays become lists, bytes text, and what is no finite number None.

    Anything else becomes its `str`, as a `Path` in meta does.
    """
    if isinstance(value, np.ndarray | np.generic):
        return to_json(value.astype(np.float32).tolist() if value.dtype.isbuiltin == 2 else value.tolist())
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
