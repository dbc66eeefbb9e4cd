"""Every built-in optimizer by name, built as in a run, and functions that run many of its steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest

from aipcore.hooks.manager import get_plugin_manager

Mode = Literal["eager", "graph", "xla"]
MakeOptimizer = Callable[..., Any]

NAMES = ("AdaBelief", "Adam", "AdamW", "Adamax", "LAMB", "Lion", "Muon", "Nadam", "RMSprop", "SGD")


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """Return each built-in optimizer in turn."""
    return str(request.param)


@pytest.fixture
def make_optimizer() -> MakeOptimizer:
    """Return a function that builds an optimizer from its name, a learning rate or schedule, and its options."""

    def make(name: str, learning_rate: Any, **options: Any) -> Any:
        plugins = get_plugin_manager()
        params = plugins.params_class("optimizer", name)(**options)
        return plugins.load_build("optimizer", name)(params, learning_rate)

    return make


@pytest.fixture
def make_schedule() -> Callable[..., Any]:
    """Return a function that builds a schedule from its name, the run's length and its options."""

    def make(name: str, *, updates_per_epoch: int, epochs: int, **options: Any) -> Any:
        from aipcore.training.engine.learning_rate import Horizon, build_schedule

        plugins = get_plugin_manager()
        params = plugins.params_class("schedule", name)(**options)
        horizon = Horizon(updates_per_epoch=updates_per_epoch, epochs=epochs)
        return build_schedule(plugins.load_build("schedule", name), params, horizon)

    return make


@pytest.fixture
def make_variables() -> Callable[..., list[Any]]:
    """Return a function that creates one variable for each name and value."""

    def make(dtype: str = "float32", **values: Any) -> list[Any]:
        import keras

        return [keras.Variable(value, dtype=dtype, name=name) for name, value in values.items()]

    return make


@pytest.fixture
def make_loop() -> Callable[..., Any]:
    """Return a function that runs all steps of a gradient function in one loop, like the training loop.

    `gradients` returns the gradients of all variables for a step number (a scalar int32 tensor).
    """

    def make(
        optimizer: Any, variables: Sequence[Any], gradients: Callable[[Any], Any], *, steps: int, mode: Mode
    ) -> Any:
        import tensorflow as tf

        optimizer.build(variables)

        def loop() -> None:
            def body(step: Any) -> Any:
                optimizer.apply(gradients(step), variables)
                return [step + 1]

            tf.while_loop(lambda step: step < steps, body, [tf.constant(0)], parallel_iterations=1)

        return loop if mode == "eager" else tf.function(loop, autograph=False, jit_compile=mode == "xla")

    return make
