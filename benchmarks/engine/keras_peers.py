"""Peers that train the Keras model itself: aip, `Model.fit`, a loop in JAX, and a hand-written loop."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from aipcore.start_tensorflow import import_tensorflow
from engine.models import Task
from engine.turns import Seconds, Turns

EPOCHS = 1000
"""More than are measured."""

STEPS_PER_CALL = 50


def fit(task: Task, *, many: bool, jit: bool | str) -> Iterator[Seconds]:
    """Train with `Model.fit`.

    Args:
        task: the task.
        many: if True, run many steps per call.
        jit: `jit_compile`.
    """
    import_tensorflow()
    import keras

    turns = Turns()
    model, arguments = task.model(), task.fit_arguments()
    steps = min(STEPS_PER_CALL, task.steps) if many else 1
    model.compile(keras.optimizers.Adam(0.001), task.loss, jit_compile=jit, steps_per_execution=steps)

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            turns.updated()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            turns.epoch_ended()

    yield from turns.run(lambda: model.fit(**arguments, epochs=EPOCHS, verbose=0, callbacks=[Clock()]))


def aip(task: Task) -> Iterator[Seconds]:
    """Train with aip's loop, as `aip train` does."""
    import_tensorflow()
    from aipcore.training.reporter import EpochReport, Reporter
    from aipcore.training.trainer import Trainer

    turns = Turns()

    class Clock(Reporter):
        """Waits for its turn after each epoch."""

        def progress(self, step: int, samples: int, logs: Any) -> None:
            turns.updated()

        def epoch_ended(self, report: EpochReport) -> None:
            turns.epoch_ended()

    scenario, own = task.scenario()
    params = {
        "trainer.epochs": EPOCHS,
        "trainer.random_seed": 1,
        "trainer.skip_sanity_check": True,
        "trainer.precision": task.precision,
        "train.shuffle": task.shuffle,
        "train.batch_size": task.batch_size,
        "learning_rate": "Constant",
    }
    yield from turns.run(Trainer.from_scenario(scenario, {**params, **own}, reporter=Clock(), quiet=True).fit)


def _folded(task: Task) -> list[dict[str, Any]]:
    """Return inputs and targets by step: arrays of shape [steps, batch, ...] by name."""
    inputs, targets = task.data(task.samples)
    return [
        {name: x.reshape(task.steps, task.batch_size, *x.shape[1:]) for name, x in side.items()}
        for side in (inputs, {"": targets})
    ]


def by_hand(task: Task, *, jit: bool) -> Iterator[Seconds]:
    """Train with one compiled function for the whole epoch: the upper limit for a loop over this model."""
    import_tensorflow()
    import keras
    import tensorflow as tf

    started = time.perf_counter()
    model = task.model()
    optimizer = keras.optimizers.Adam(0.001)
    optimizer.build(model.trainable_variables)
    total = tf.Variable(0.0)
    columns, truth = tf.nest.map_structure(tf.constant, _folded(task))

    @tf.function(jit_compile=jit, autograph=False)
    def epoch(columns: Any, truth: Any, limit: Any) -> None:
        def body(step: Any) -> Any:
            with tf.GradientTape() as tape:
                output = model({key: x[step] for key, x in columns.items()}, training=True)
                loss = tf.reduce_mean(task.loss(truth[step], output))
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
            total.assign_add(loss)
            return [step + 1]

        tf.while_loop(lambda step: step < limit, body, [tf.constant(0)], parallel_iterations=1)

    epoch(columns, truth[""], tf.constant(1))
    total.numpy()
    yield time.perf_counter() - started
    while True:
        begun = time.perf_counter()
        epoch(columns, truth[""], tf.constant(task.steps))
        total.numpy()
        yield time.perf_counter() - begun


def jax_scan(task: Task) -> Iterator[Seconds]:
    """Train the Keras model in JAX, with `lax.scan` over the epoch and Keras' stateless Adam."""
    os.environ["KERAS_BACKEND"] = "jax"
    import jax
    import keras

    started = time.perf_counter()
    model, (columns, truth) = task.model(), jax.tree.map(jax.numpy.asarray, _folded(task))
    optimizer = keras.optimizers.Adam(0.001)
    optimizer.build(model.trainable_variables)

    def loss(weights: Any, rest: Any, inputs: Any, target: Any) -> Any:
        output, rest = model.stateless_call(weights, rest, inputs, training=True)
        return task.loss(target, output).mean(), rest

    def step(state: Any, batch: Any) -> Any:
        weights, rest, slots = state
        (value, rest), gradients = jax.value_and_grad(loss, has_aux=True)(weights, rest, *batch)
        weights, slots = optimizer.stateless_apply(slots, gradients, weights)
        return (weights, rest, slots), value

    def shuffled(order: Any, column: Any) -> Any:
        return column.reshape(-1, *column.shape[2:])[order].reshape(column.shape)

    @jax.jit
    def epoch(state: Any, columns: Any, truth: Any, order: Any) -> Any:
        if task.shuffle:
            columns, truth = jax.tree.map(lambda column: shuffled(order, column), (columns, truth))
        return jax.lax.scan(step, state, (columns, truth[""]))

    state = tuple(
        [variable.value for variable in each]
        for each in (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    )
    random, first = np.random.default_rng(1), True
    while True:
        begun = started if first else time.perf_counter()
        order = random.permutation(task.samples) if task.shuffle else np.zeros(1, int)
        state, values = epoch(state, columns, truth, order)
        values.block_until_ready()
        yield time.perf_counter() - begun
        first = False
