"""Checks of learning-rate schedules."""

from __future__ import annotations

from typing import Any

from aipcore.testing.checks.parameters import build_at_limits
from aipcore.testing.registry import conformance_check
from aipcore.testing.results import require
from aipcore.testing.subject import Subject

MADE = ("parameters_can_be_created",)
BUILT = ("builds",)
HORIZONS = ((1, 1), (10, 5), (1, 40), (977, 3))
"""Pairs of updates per epoch and number of epochs."""


def _horizon(updates_per_epoch: int = 10, epochs: int = 5) -> Any:
    from aipcore.training.engine.learning_rate import Horizon

    return Horizon(updates_per_epoch=updates_per_epoch, epochs=epochs)


def _rates(schedule: Any, steps: list[int]) -> list[float]:
    import tensorflow as tf

    compiled = tf.function(lambda step: tf.cast(schedule(step), tf.float64), autograph=False)
    return [float(compiled(tf.constant(step, tf.int64))) for step in steps]


@conformance_check("schedule", needs=MADE)
def builds(subject: Subject) -> None:
    """`build` returns a Keras schedule for runs of any length."""
    import keras

    for updates, epochs in HORIZONS:
        made = subject.build(subject.params(), _horizon(updates, epochs))
        require(
            isinstance(made, keras.optimizers.schedules.LearningRateSchedule),
            f"build returned {type(made).__name__}: return a keras.optimizers.schedules.LearningRateSchedule",
        )


@conformance_check("schedule", needs=BUILT)
def builds_at_its_limits(subject: Subject) -> None:
    """`build` accepts every value inside the limits of the parameters, the limits included."""
    build_at_limits(subject, lambda params: subject.build(params, _horizon()))


@conformance_check("schedule", needs=BUILT)
def gives_a_float32_scalar(subject: Subject) -> None:
    """The learning rate is a float32 scalar tensor, for steps of either integer type."""
    import tensorflow as tf

    schedule = subject.build(subject.params(), _horizon())
    for dtype in (tf.int32, tf.int64):
        rate = tf.convert_to_tensor(schedule(tf.constant(3, dtype)))
        require(
            rate.dtype == tf.float32 and rate.shape.rank == 0, f"the rate is {rate.dtype.name} of shape {rate.shape}"
        )


@conformance_check("schedule", needs=BUILT)
def is_pure(subject: Subject) -> None:
    """The learning rate depends only on the step: not on earlier calls, and not on the instance of the schedule."""
    import tensorflow as tf

    first, second = (subject.build(subject.params(), _horizon()) for _ in range(2))
    steps = [0, 7, 3, 49, 20, 3, 0]
    rates = [float(first(tf.constant(step, tf.int64))) for step in steps]
    again = {step: float(second(tf.constant(step, tf.int64))) for step in sorted(set(steps), reverse=True)}
    for step, rate in zip(steps, rates, strict=True):
        require(rate == again[step], f"at step {step} the rate is {rate}, then {again[step]}")


@conformance_check("schedule", needs=BUILT)
def is_finite_everywhere(subject: Subject) -> None:
    """The learning rate is finite at every step of the run, and far beyond its end."""
    import math

    for updates, epochs in HORIZONS:
        total = updates * epochs
        steps = [*range(0, total + 1, max(1, total // 50)), 10 * total, 1000 * total, 2**31 - 1, 2**40]
        schedule = subject.build(subject.params(), _horizon(updates, epochs))
        for step, rate in zip(steps, _rates(schedule, steps), strict=True):
            where = f"step {step} of {total} ({epochs} epochs of {updates} updates)"
            require(math.isfinite(rate), f"at {where} the rate is {rate}")


@conformance_check("schedule", needs=BUILT)
def is_never_negative(subject: Subject) -> None:
    """The learning rate is never negative, and positive at some step of each epoch of the run."""
    schedule = subject.build(subject.params(), _horizon())
    steps = [*range(51), 100, 1000, 10**6]
    rates = _rates(schedule, steps)
    for step, rate in zip(steps, rates, strict=True):
        require(not rate < 0, f"at step {step} of 50 the rate is {rate}")
    for epoch in range(5):
        require(
            any(rate > 0 for rate in rates[10 * epoch : 10 * epoch + 10]), f"the rate is 0 throughout epoch {epoch + 1}"
        )


@conformance_check("schedule", needs=(*BUILT, "is_pure"))
def works_when_compiled(subject: Subject) -> None:
    """In a graph and under XLA, traced once, the learning rates equal those of eager calls, within a relative 1e-6."""
    import tensorflow as tf

    schedule = subject.build(subject.params(), _horizon())
    steps = [0, 1, 9, 10, 25, 49, 50, 500]
    expected = [float(schedule(tf.constant(step, tf.int64))) for step in steps]
    for xla in (False, True):
        compiled = tf.function(schedule.__call__, autograph=False, jit_compile=xla)
        found = [float(compiled(tf.constant(step, tf.int64))) for step in steps]
        require(compiled.experimental_get_tracing_count() == 1, "the schedule is traced again for another step")
        for step, rate, eager in zip(steps, found, expected, strict=True):
            close = abs(rate - eager) <= 1e-6 * max(abs(eager), 1e-6)
            require(close, f"{'under XLA' if xla else 'in a graph'}, the rate of step {step} is {rate}, not {eager}")


@conformance_check("schedule", needs=(*BUILT, "is_pure"))
def follows_lr(subject: Subject) -> None:
    """Doubling `lr` doubles the learning rate at every step."""
    steps = [0, 1, 5, 10, 30, 49, 60]
    low, high = (_rates(subject.build(subject.params({"lr": lr}), _horizon()), steps) for lr in (0.01, 0.02))
    for step, one, two in zip(steps, low, high, strict=True):
        require(
            abs(two - 2 * one) <= 1e-6 * max(abs(two), 1e-6),
            f"at step {step}, lr 0.01 gives {one} and lr 0.02 gives {two}",
        )
