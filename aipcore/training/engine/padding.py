"""The check that more padding does not change the results of a training step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from aipcore.data.loader import Block
from aipcore.training.engine.train_step import TrainingLoop
from aipcore.training.variables import VariableState

ROWS = 3
"""Number of samples that the check compares."""

LIMIT = 1e-4
"""Largest change, as a share of the largest value of an array, that rounding explains."""

MIXED_LIMIT = 1e-2
"""The same if layers compute in fewer bits than float32."""

NEGLIGIBLE = 1e-6
"""Largest change as a share of the largest value of all gradients."""


GRADIENTS = ("gradient/", "loop/group_")
"""Prefixes of the names of gradients, and of their sums over batches."""


def change_by_padding(loop: TrainingLoop, state: VariableState, block: Block, longer: Block) -> str | None:
    """Return a sentence about a change of gradients, metrics or other variables by padding, or None without a change.

    A sample in a batch of its own gets the same random numbers (dropout) for any padding at the end, so its gradients
    are comparable. The state does not change, except that the metrics are reset.

    Args:
        loop: the loop.
        state: all variables that a step may change.
        block: a batch.
        longer: the same batch with more padding.
    """
    loop.metrics.reset()
    gradients, before = loop.compiled_gradients(), state.read()
    found = False
    for row in np.unique(np.linspace(0, block.batch_size - 1, ROWS).astype(int)).tolist():
        each = []
        for given in (block, longer):
            try:
                made = [gradient.numpy() for gradient in gradients(*loop.prepare(_single(given, row), [True]))]
            except tf.errors.OpError:
                if given is block:
                    raise
                return "the model does not accept more padding"
            each.append({**{f"{GRADIENTS[0]}{n}": gradient for n, gradient in enumerate(made)}, **state.read()})
            state.write(before)
        if (change := _change(*each)) is not None:
            return change
        found |= any(value.any() for name, value in each[0].items() if name.startswith(GRADIENTS))
    return None if found else "no trial sample has a gradient"


def _single(block: Block, row: int) -> Block:
    """Return one sample of the first batch as a block."""
    sides = [{name: column[:1, row : row + 1] for name, column in side.items()} for side in block.sides]
    return attrs.evolve(block, steps=1, batch_size=1, inputs=sides[0], targets=sides[1], weights=sides[2], meta=None)


def _change(one: Mapping[str, npt.NDArray[Any]], other: Mapping[str, npt.NDArray[Any]]) -> str | None:
    limit = LIMIT if keras.config.dtype_policy().compute_dtype == "float32" else MIXED_LIMIT
    gradients = [np.abs(value).max(initial=0) for name, value in one.items() if name.startswith(GRADIENTS)]
    negligible = NEGLIGIBLE * float(max(gradients, default=0))
    for name, value in one.items():
        if np.array_equal(value, other[name]):
            continue
        values = value.astype(np.float64), other[name].astype(np.float64)
        scale, difference = max(np.abs(each).max() for each in values), np.abs(values[0] - values[1]).max()
        if not difference <= limit * scale + negligible:
            what = "the gradients" if name.startswith(GRADIENTS) else name
            return f"more padding changes {what} by up to {difference / scale:.1%}"
    return None
