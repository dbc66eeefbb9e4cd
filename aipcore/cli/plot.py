"""Plots of learning-rate schedules in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aipcore.hooks.manager import PluginManager

HEIGHT = 12
LABELS = 24
"""Width of the axis labels, in columns."""

POINTS = 400
"""Approximate number of plotted updates. The shape of a schedule depends only on the time in epochs."""


def schedule_plot(plugins: PluginManager, name: str, params: Any, *, epochs: int, width: int) -> str:
    """Plot the learning rate over a run as text.

    This imports TensorFlow, since the plot shows the values that the schedule computes.

    Args:
        plugins: plugin manager that builds the schedule.
        name: name of the schedule.
        params: parameters of the schedule.
        epochs: number of epochs of the run.
        width: width of the text, in characters.
    """
    from aipcore.start_tensorflow import import_tensorflow

    import_tensorflow()
    from aipcore.training.engine.learning_rate import Horizon, learning_rates

    horizon = Horizon(updates_per_epoch=max(2, POINTS // epochs), epochs=epochs)
    return plot(*learning_rates(plugins.load_build("schedule", name), params, horizon), width=width)


def plot(epochs: Sequence[float], rates: Sequence[float], *, width: int) -> str:
    """Plot learning rates over epochs. The y-axis runs from 0 to slightly above the highest rate."""
    import plotille

    figure = plotille.Figure()
    figure.width, figure.height = max(20, width - LABELS), HEIGHT
    figure.with_colors = False
    figure.x_label, figure.y_label = "epoch", "rate"
    figure.set_x_limits(min_=0, max_=epochs[-1])
    figure.set_y_limits(min_=0, max_=1.05 * max(rates))
    figure.register_label_formatter(float, _label)
    figure.register_label_formatter(int, _label)
    figure.plot(list(epochs), list(rates))
    return "\n".join(line.rstrip() for line in str(figure.show()).splitlines())


def _label(value: float, chars: int, delta: float, left: bool = False) -> str:
    del delta
    text = f"{value:.3g}"
    return text.ljust(chars) if left else text.rjust(chars)
