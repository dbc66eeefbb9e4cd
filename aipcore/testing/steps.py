"""Optimizer steps without a model: variables, gradients and compiled loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from aipcore.testing.subject import Subject

STEPS = 8
"""Number of fixed gradients."""

SHAPES = {"tall": (6, 4), "wide": (4, 6), "bias": (5,), "kernel": (3, 3, 2, 4)}

Gradients = Callable[[Any], list[Any]]


class TriedRate(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A learning rate that can be changed without retracing. It falls to 0 along a half cosine over `steps` updates."""

    def __init__(self, steps: int) -> None:
        self.rate = tf.Variable(0.0, trainable=False)
        self.steps = steps

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of an update."""
        part = tf.cast(step, tf.float32) / self.steps
        return self.rate * 0.5 * (1 + tf.cos(np.pi * tf.minimum(part, 1.0)))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {"steps": self.steps}


def make_optimizer(subject: Subject, learning_rate: Any, **options: Any) -> Any:
    """Build the optimizer as a run does."""
    return subject.build(subject.params(options), learning_rate)


def make_variables(dtype: str = "float32") -> list[Any]:
    """Return variables of several shapes with fixed values."""
    generator = np.random.default_rng(1)
    return [keras.Variable(generator.normal(size=shape), dtype=dtype, name=name) for name, shape in SHAPES.items()]


def fixed_gradients(dtype: str = "float32") -> Gradients:
    """Return a function from a step below `STEPS`, a scalar int32 tensor, to the gradients of these variables."""
    generator = np.random.default_rng(2)
    tables = [tf.cast(generator.normal(size=(STEPS, *shape)), dtype) for shape in SHAPES.values()]
    return lambda step: [table[step] for table in tables]


def compiled_loop(
    optimizer: Any, variables: Sequence[Any], gradients: Gradients, steps: int, mode: Literal["graph", "xla"] = "graph"
) -> Any:
    """Return a function that runs all steps in one loop, like the training loop."""
    optimizer.build(variables)

    def loop() -> None:
        def body(step: Any) -> Any:
            optimizer.apply(gradients(step), variables)
            return [step + 1]

        tf.while_loop(lambda step: step < steps, body, [tf.constant(0)], parallel_iterations=1)

    return tf.function(loop, autograph=False, jit_compile=mode == "xla")


def numbers(variables: Sequence[Any]) -> list[Any]:
    """Return copies of the values."""
    return [np.array(variable.numpy()) for variable in variables]


def same_bits(some: Sequence[Any], others: Sequence[Any]) -> bool:
    """Return True if all arrays are bit-identical."""
    return len(some) == len(others) and all(a.tobytes() == b.tobytes() for a, b in zip(some, others, strict=True))


def minimized(
    subject: Subject, start: Sequence[Any], gradients: Callable[[list[Any]], list[Any]], steps: int, mode: Any
) -> Iterator[tuple[float, list[Any]]]:
    """Run the optimizer from `start` with the declared learning rates, one after another.

    Args:
        subject: optimizer under test.
        start: initial values of the variables.
        gradients: function from the variables to their gradients.
        steps: number of steps.
        mode: compilation mode of the loop.

    Yields:
        a learning rate with the final values of the variables.
    """
    variables = [keras.Variable(value, dtype="float32", name=f"point_{index}") for index, value in enumerate(start)]
    schedule = TriedRate(steps)
    optimizer = make_optimizer(subject, schedule)
    loop = compiled_loop(optimizer, variables, lambda _: gradients(variables), steps, mode)
    state = [*variables, *optimizer.variables]
    before = numbers(state)
    for rate in subject.declared.rates:
        for variable, value in zip(state, before, strict=True):
            variable.assign(value)
        schedule.rate.assign(rate)
        loop()
        yield rate, numbers(variables)
