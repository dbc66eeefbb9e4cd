"""Gradients of embeddings, which hold one row for each looked-up index, with repetitions."""

from __future__ import annotations

from functools import partial
from typing import Any

import tensorflow as tf


def sum_rows_before_writing(optimizer: Any) -> None:
    """Make a Keras optimizer add up rows of the same index before it adds them to a variable.

    The sum is the same. But TensorFlow's scatter operations use several threads from 1024 rows on a CPU, and the order
    in which they add rows of the same index differs between runs.
    """
    for name in ("assign_add", "assign_sub"):
        setattr(optimizer, name, partial(_write, getattr(optimizer, name)))


def _write(assign: Any, variable: Any, value: Any) -> None:
    assign(variable, tf.convert_to_tensor(value) if isinstance(value, tf.IndexedSlices) else value)
