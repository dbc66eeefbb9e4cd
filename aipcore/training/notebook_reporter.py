"""Output of training in a notebook: tables of the plan and of the epochs, and a progress bar, in one cell output."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rich.console import Console

from aipcore.console import html_table
from aipcore.training.console_reporter import BEST, ConsoleReporter, value_text, values_text
from aipcore.training.reporter import EpochReport, TrainResult, ValidationReport

SECONDS = 0.2
"""Minimum time between two updates of the progress bar."""

MOST_ROWS = 100
"""Maximum number of rows. Of more epochs, the last ones are shown."""


class NotebookReporter(ConsoleReporter):
    """A reporter for Jupyter, Colab and VS Code. The log file gets the same lines as in a terminal.

    An output with an id is updated in place, which needs no widgets, and is stored in the notebook.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        super().__init__(console, quiet=quiet)
        self._output: Any = None
        self._rows: list[dict[str, str]] = []
        self._bar = self._place = ""
        self._began = self._drawn = 0.0

    def _show_plan(self, rows: list[tuple[str, str]]) -> None:
        self._output, self._rows = None, []
        _display(html_table(rows), "\n".join(map(": ".join, rows)))

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        """Show an empty progress bar."""
        self._place, self._steps, self._began = f"epoch {epoch}/{epochs}", steps, time.perf_counter()
        self._draw_bar(0, "")

    def progress(self, step: int, samples: int, logs: Mapping[str, float]) -> None:
        """Move the progress bar."""
        del samples
        if time.perf_counter() - self._drawn >= SECONDS:
            left = (time.perf_counter() - self._began) * (self._steps - step) / step
            self._draw_bar(step, f"{left:.0f}s left  {values_text(logs)}")

    def _draw_bar(self, step: int, text: str) -> None:
        bar = f'<progress value="{step}" max="{self._steps}"></progress>'
        self._bar = f"<div>{bar} {escape(f'{self._place}  {step}/{self._steps}  {text}')}</div>"
        self._draw()

    def _show(self, start: str, report: EpochReport | ValidationReport, lav: Sequence[str] = ()) -> None:
        super()._show(start, report, lav)
        place, seconds = start.rsplit(maxsplit=1)
        row = {"": place, "time": seconds}
        for name, value in report.logs.items():
            # The EMA rate is constant, and already in the plan.
            if not name.endswith("ema_rate"):
                heading, _, row_text = value_text(name, value).rpartition(" ")
                row[heading] = row_text
        self._rows.append({**row, BEST: BEST} if report.is_best else row)
        self._draw()

    def summary(self, result: TrainResult) -> None:
        """Remove the progress bar, and show the result."""
        self.close()
        super().summary(result)

    def close(self) -> None:
        """Remove the progress bar, however the run ended."""
        if self._bar:
            self._bar = ""
            self._draw()

    def _draw(self) -> None:
        if self._quiet:
            return
        self._drawn = time.perf_counter()
        rows = self._rows[-MOST_ROWS:]
        head = sorted(dict.fromkeys(name for row in rows for name in row), key=lambda name: name == BEST)
        table = html_table([[row.get(name, "") for name in head] for row in rows], head) if rows else ""
        plain = "  ".join(f"{name} {text}" for name, text in rows[-1].items()) if rows else self._place
        self._output = _display(f"{table}{self._bar}", plain, self._output)


def _display(html: str, plain: str, output: Any = None) -> Any:
    """Show HTML in the output of the running cell, or in place of an earlier one; return its handle."""
    from IPython.display import display

    content = {"text/html": html, "text/plain": plain}
    if output is None:
        return display(content, raw=True, display_id=True)
    output.update(content, raw=True)
    return output
