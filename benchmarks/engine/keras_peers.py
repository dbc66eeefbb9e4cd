"""Peers that train the Keras model itself: aip, `Model.fit`, and a hand-written loop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from aipcore.start_tensorflow import import_tensorflow
from engine.models import TASKS, Task

Seconds = float
"""Yielded by each peer, a generator: the time from its start to its first update, then the time of each epoch."""


def make(task: Task) -> tuple[Any, dict[str, Any], Any]:
    """Return the model, its inputs and its targets, the same for every peer."""
    import keras

    keras.utils.set_random_seed(1)
    inputs, targets = task.data(task.samples)
    symbolic = {name: keras.Input(x.shape[1:], dtype=x.dtype.name, name=name) for name, x in inputs.items()}
    return keras.Model(symbolic, task.build(symbolic)), inputs, targets


def fit(name: str, **compile_options: Any) -> Iterator[Seconds]:
    """Train with `Model.fit`."""
    import_tensorflow()
    import keras

    started = time.perf_counter()
    task = TASKS[name]
    model, inputs, targets = make(task)
    model.compile(keras.optimizers.Adam(0.001), task.loss, **compile_options)
    first: list[float] = []

    class First(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if not first:
                first.append(time.perf_counter() - started)

    model.fit(inputs, targets, batch_size=task.batch_size, shuffle=False, verbose=0, callbacks=[First()])
    yield first[0]
    while True:
        begun = time.perf_counter()
        model.fit(inputs, targets, batch_size=task.batch_size, shuffle=False, verbose=0)
        yield time.perf_counter() - begun


def aip(name: str) -> Iterator[Seconds]:
    """Train with aip's loop, as `aip train` does."""
    import_tensorflow()
    import threading

    from aipcore.scenario import Scenario
    from aipcore.training.reporter import EpochReport, Reporter
    from aipcore.training.trainer import Trainer

    started = time.perf_counter()
    task = TASKS[name]

    class Made(Scenario):
        """The task as a scenario."""

        def train_data(self) -> Any:
            return task.data(task.samples)

        def build(self, inputs: Any) -> Any:
            return task.build(inputs)

        def loss_values(self, inputs: Any, targets: Any, outputs: Any) -> Any:
            return {"loss": task.loss(targets[""], outputs[""])}

    class Turns(Reporter):
        """Waits for its turn after each epoch, and measures the next one."""

        def __init__(self) -> None:
            self.go, self.done = threading.Semaphore(0), threading.Semaphore(0)
            self.first = self.begun = self.seconds = 0.0
            self.loop = ""

        def plan(self, rows: list[tuple[str, str]]) -> None:
            self.loop = dict(rows)["loop"]

        def progress(self, step: int, samples: int, logs: Any) -> None:
            self.first = self.first or time.perf_counter() - started

        def epoch_ended(self, report: EpochReport) -> None:
            self.seconds = time.perf_counter() - self.begun
            self.done.release()
            self.go.acquire()
            self.begun = time.perf_counter()

    params = {
        "trainer": {"epochs": 1000, "random_seed": 1, "skip_sanity_check": True},
        "train": {"shuffle": False, "batch_size": task.batch_size},
        "learning_rate": "Constant",
    }
    turns = Turns()
    trainer = Trainer.from_scenario(Made, params, reporter=turns)
    threading.Thread(target=trainer.fit, daemon=True).start()
    turns.done.acquire()
    yield turns.first
    while True:
        turns.go.release()
        turns.done.acquire()
        yield turns.seconds


def by_hand(name: str, *, jit: bool) -> Iterator[Seconds]:
    """Train with one compiled function for the whole epoch: the upper limit for a loop over this model."""
    import_tensorflow()
    import keras
    import tensorflow as tf

    started = time.perf_counter()
    task = TASKS[name]
    model, inputs, targets = make(task)
    optimizer = keras.optimizers.Adam(0.001)
    optimizer.build(model.trainable_variables)
    total = tf.Variable(0.0)
    steps = task.samples // task.batch_size

    def fold(x: Any) -> Any:
        return tf.constant(x.reshape(steps, task.batch_size, *x.shape[1:]))

    columns, truth = {key: fold(x) for key, x in inputs.items()}, fold(targets)

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

    epoch(columns, truth, tf.constant(1))
    total.numpy()
    yield time.perf_counter() - started
    while True:
        begun = time.perf_counter()
        epoch(columns, truth, tf.constant(steps))
        total.numpy()
        yield time.perf_counter() - begun
