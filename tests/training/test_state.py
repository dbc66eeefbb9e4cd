"""Snapshots of a run's state while training continues."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from aipcore.distributed.params import DeviceParams
from aipcore.distributed.process_group import ProcessGroup
from aipcore.distributed.strategy import ReplicaVariables, make_distribution
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


def test_moves_to_another_number_of_replicas() -> None:
    """Sums are added up on the first replica, statistics averaged, and an equal value counts once for each replica."""

    def state(replicas: int) -> VariableState:
        distribution = make_distribution(DeviceParams(), 16, ProcessGroup())
        distribution.devices *= replicas

        def each(**options: Any) -> ReplicaVariables:
            return ReplicaVariables([keras.Variable(np.zeros(2), "float32", **options) for _ in range(replicas)])

        groups = {
            "metrics": {"sum": each(aggregation="sum"), "mean": each(aggregation="mean")},
            "loop": {"group": ReplicaVariables([tf.Variable([0.0]) for _ in range(replicas)])},
            "model": {"statistics": keras.Variable([0.0, 0.0]), "steps": keras.Variable([0], dtype="int32")},
        }
        return VariableState(groups, distribution)

    def arrays(*values: float) -> dict[str, Any]:
        return {
            name: np.array([value] * size, dtype)
            for name, value, size, dtype in zip(NAMES, values, (2, 2, 1, 2, 1), (*["f4"] * 4, "i4"), strict=True)
        }

    three = arrays(1, 2, 3, 4, 5) | {f"{name}@1": array for name, array in arrays(7, 8, 9, 10, 11).items()}
    two = state(2)
    two.write(three, replicas=3)
    # The third replica has the values of the first.
    moved = {name: array.ravel()[0] for name, array in two.read().items()}
    assert moved == pytest.approx(
        {"metrics/sum": 9, "metrics/sum@1": 0, "metrics/mean": 4, "loop/group": 15, "loop/group@1": 0,
         "model/statistics": 6, "model/steps": 5}
    )  # fmt: skip
    one = state(1)
    one.write(two.read(), replicas=2)
    assert {name: array.ravel()[0] for name, array in one.read().items()} == pytest.approx(
        {name: value for name, value in moved.items() if "@" not in name}
    )
    same = state(2)
    same.write({**three}, replicas=2)
    assert same.read()["metrics/sum@1"].tolist() == [7, 7]


NAMES = ("metrics/sum", "metrics/mean", "loop/group", "model/statistics", "model/steps")
