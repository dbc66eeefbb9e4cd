"""Plots of schedules: drawn only for schedules, with the values of the schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from aipcore.cli.plot import plot

DOTS = range(0x2801, 0x2900)


def columns(text: str) -> list[int | None]:
    """Return the line of the uppermost dot in each column of the plot, counted from below."""
    lines = [line.partition("| ")[2] for line in text.splitlines() if "| " in line and "|-" not in line]
    lines = [line for line in lines if not line.lstrip().startswith(("0 ", "0."))]
    found: list[int | None] = []
    for column in range(1, max(map(len, lines))):
        hits = [len(lines) - row for row, line in enumerate(lines) if column < len(line) and ord(line[column]) in DOTS]
        found.append(max(hits) if hits else None)
    return found


def test_shape() -> None:
    """A falling curve goes from the top left to the bottom right."""
    epochs = [step / 100 for step in range(1001)]
    drawn = columns(plot(epochs, [0.01 * (1 - epoch / 10) for epoch in epochs], width=80))
    heights = [height for height in drawn if height is not None]
    assert len(heights) > 50
    assert heights == sorted(heights, reverse=True)
    assert heights[0] - heights[-1] >= 10


@pytest.mark.parametrize("width", [48, 80, 200])
def test_width(width: int) -> None:
    """No line exceeds the given width."""
    text = plot([0.0, 1.0, 2.0], [0.1, 0.2, 0.1], width=width)
    assert max(map(len, text.splitlines())) <= width
    assert max(map(len, text.splitlines())) > width - 14


def test_show_draws_schedules(fork_aip: Callable[..., Any]) -> None:
    """A schedule's page ends with its curve, in which the rate rises and falls."""
    done = fork_aip("plugins", "show", "WarmupCosineDecay")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Learning rate over 20 epochs" in done.stdout
    heights = [height for height in columns(done.stdout.partition("Learning rate over")[2]) if height is not None]
    top = heights.index(max(heights))
    assert 0 < top < 10
    assert heights[top:] == sorted(heights[top:], reverse=True)


def test_show_draws_nothing_else(fork_aip: Callable[..., Any]) -> None:
    """Other plugins have no curve."""
    assert "Learning rate over" not in fork_aip("plugins", "show", "adabelief").stdout


def test_params_with_a_plot_stay_yaml(fork_aip: Callable[..., Any]) -> None:
    """The plot is a comment, and shows the schedule of this command line."""
    words = ("params", "tutorial", "--learning_rate", "Constant", "--learning_rate.lr", "0.25")
    plain, drawn = fork_aip(*words), fork_aip(*words, "--plot")
    assert (drawn.returncode, drawn.stderr) == (0, "")
    assert drawn.stdout.startswith(plain.stdout)
    picture = drawn.stdout.removeprefix(plain.stdout)
    assert "# learning rate: Constant" in picture
    assert "0.25" in picture or "0.26" in picture
    assert yaml.safe_load(drawn.stdout) == yaml.safe_load(plain.stdout)


def test_json_has_no_comments(fork_aip: Callable[..., Any]) -> None:
    """JSON with a plot is refused."""
    done = fork_aip("params", "tutorial", "--plot", "--format", "json")
    assert done.returncode == 2
    assert "Leave out --format json" in done.stderr
