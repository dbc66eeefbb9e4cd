"""Snapshots of a run's state while training continues."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from aipcore.distributed.params import DeviceParams
from aipcore.distributed.process_group import ProcessGroup
from aipcore.distributed.strategy import make_distribution
from aipcore.errors import TrainingError
from aipcore.training.variables import VariableState, by_path


def make_step(optimizer: Any) -> tuple[VariableState, Any]:
    """Return a step of a model in which every kind of state changes, and its state."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            layers.Embedding(20, 8),
            layers.Flatten(),
            layers.BatchNormalization(),
            layers.Dropout(0.5, seed=1),
            layers.Dense(3),
        ]
    )
    optimizer.build(model.trainable_variables)
    loose = tf.Variable(tf.ones((5,), tf.bfloat16))
    inputs = tf.constant(np.random.default_rng(0).integers(0, 20, (16, 4)))

    def step() -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(inputs, training=True) - 1.0))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        loose.assign_add(loose)

    groups = {
        "model": by_path(model.variables, "the model"),
        "optimizer": by_path(optimizer.variables, "the optimizer"),
        "loose": {"loose": loose},
    }
    return VariableState(groups, make_distribution(DeviceParams(), 16, ProcessGroup())), step


@pytest.mark.parametrize("compiled", ["eager", "graph", "XLA"])
@pytest.mark.parametrize("optimizer", [keras.optimizers.Adam, keras.optimizers.SGD])
def test_snapshots_do_not_change(optimizer: Any, compiled: str) -> None:
    """Later updates of the variables do not change a snapshot, which is read-only."""
    state, step = make_step(optimizer(0.1))
    step = step if compiled == "eager" else tf.function(step, jit_compile=compiled == "XLA")
    step()
    frozen = state.read()
    copies = {name: array.copy() for name, array in frozen.items()}
    for _ in range(3):
        step()
    assert all(array.tobytes() == copies[name].tobytes() for name, array in frozen.items())
    later = state.read()
    changed = {name for name, array in later.items() if array.tobytes() != copies[name].tobytes()}
    assert {name for name in copies if name.startswith(("model/", "loose/"))} <= changed
    state.write(frozen)
    again = state.read()
    step()
    assert all(array.tobytes() == copies[name].tobytes() for name, array in again.items())
    with pytest.raises(ValueError, match="read-only"):
        frozen[next(iter(frozen))][...] = 0


def test_reading_copies_nothing() -> None:
    """On a CPU, two readings of a variable share memory, so that a large state takes no time and no space."""
    state, step = make_step(keras.optimizers.Adam())
    step()
    first, second = state.read(), state.read()
    shared = {name for name, array in first.items() if np.shares_memory(array, second[name])}
    assert shared == {name for name, array in first.items() if array.ndim}


def test_variables_of_one_path_are_refused(refused: Any) -> None:
    """Variables with one path are refused, since a checkpoint cannot distinguish them."""
    variables = [keras.Variable(1.0, name="scale"), keras.Variable(2.0, name="scale")]
    with refused(TrainingError):
        by_path(variables, "the optimizer Odd")
