"""Schedules built as in a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aipcore.hooks.manager import get_plugin_manager


@pytest.fixture
def make_schedule() -> Callable[..., Any]:
    """Return a function that builds a schedule as a run does, from its name, the run's length and its options."""

    def make(name: str, *, updates_per_epoch: int = 10, epochs: int = 20, **options: Any) -> Any:
        from aipcore.training.engine.learning_rate import Horizon, build_schedule

        plugins = get_plugin_manager()
        params = plugins.params_class("schedule", name)(**options)
        horizon = Horizon(updates_per_epoch=updates_per_epoch, epochs=epochs)
        return build_schedule(plugins.load_build("schedule", name), params, horizon)

    return make
