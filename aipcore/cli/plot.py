"""Plots in the terminal: learning-rate schedules and the curves of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aipcore.hooks.manager import PluginManager

HEIGHT = 12
LABELS = 24
"""Width of the axis labels, in columns."""

MOST = 1e300
"""Largest plotted value, with which the axis can be computed."""

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
    figure = _figure("rate", width)
    figure.set_x_limits(min_=0, max_=epochs[-1])
    figure.set_y_limits(min_=0, max_=1.05 * max(rates))
    figure.plot(list(epochs), list(rates))
    return _text(figure)


def plot_curves(name: str, curves: Mapping[str, Sequence[tuple[float, float]]], *, width: int) -> str:
    """Plot curves over epochs, each with its letter as the marker. A single curve is a line.

    Args:
        name: the name of the values.
        curves: the points (epoch, value) by letter. Values that are not finite are left out.
        width: width of the text, in characters.
    """
    finite = {letter: [each for each in points if abs(each[1]) <= MOST] for letter, points in curves.items()}
    shown = {letter: points for letter, points in finite.items() if points}
    if not shown:
        return f"{name} has no finite values."
    figure = _figure(name, width)
    values = [value for points in shown.values() for _, value in points]
    low, high = min(values), max(values)
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    last = max(epoch for points in shown.values() for epoch, _ in points)
    figure.set_x_limits(min_=0, max_=1.05 * last)
    figure.set_y_limits(min_=low - margin, max_=high + margin)
    for letter, points in shown.items():
        epochs, heights = ([each[axis] for each in points] for axis in (0, 1))
        if len(curves) == 1:
            figure.plot(epochs, heights)
        else:
            figure.scatter(epochs, heights, marker=letter)
    return _text(figure)


def _figure(name: str, width: int) -> Any:
    import plotille

    figure = plotille.Figure()
    figure.width, figure.height = max(20, width - LABELS), HEIGHT
    figure.with_colors = False
    figure.x_label, figure.y_label = "epoch", name
    figure.register_label_formatter(float, _label)
    figure.register_label_formatter(int, _label)
    return figure


def _text(figure: Any) -> str:
    return "\n".join(line.rstrip() for line in str(figure.show()).splitlines())


def _label(value: float, chars: int, delta: float, left: bool = False) -> str:
    del delta
    text = f"{value:.3g}"
    return text.ljust(chars) if left else text.rjust(chars)
