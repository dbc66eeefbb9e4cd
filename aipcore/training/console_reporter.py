"""Output of training: a plan, one progress bar, one line per epoch and a summary; plain lines outside a terminal."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from aipcore.logs import with_origin
from aipcore.params.names import count
from aipcore.params.secret import redacted
from aipcore.training.reporter import (
    SAMPLES_PER_SECOND,
    EpochReport,
    Reporter,
    StepReport,
    TrainResult,
    ValidationReport,
    by_part,
)
from aipcore.training.warmstart.matching import WarmStart
from aipcore.training.warmstart.table import MOST_ROWS, warm_start_lines

logger = logging.getLogger("aipcore.training")
plan_logger = logging.getLogger("aipcore.plan")
step_logger = logging.getLogger("aipcore.steps")

STEP_SECONDS = 1.0
"""Minimum time between two lines of logged steps."""

SAVED = {"best": "best model", "export": "final model", "checkpoint": "checkpoint"}
"""The headings of the folders of a run."""

NARROW = 40
"""Minimum number of terminal columns for a table or a bar."""

WIDE = 110
"""Minimum number of terminal columns for a long bar."""

BEST = "best"
"""Marker in the line of the best epoch so far."""


class ConsoleHandler(logging.Handler):
    """A log handler that prints above the progress bar.

    It omits the plan, which has its own table, and, on a terminal, logged steps, whose values the progress bar shows.
    In a notebook, it also omits epochs, which have a table.
    """

    def __init__(self, console: Console, *, quiet: bool) -> None:
        super().__init__(logging.WARNING if quiet else logging.NOTSET)
        self._console = console

    def filter(self, record: logging.LogRecord) -> bool:
        """Exclude the plan and logged steps."""
        notebook = self._console.is_jupyter
        if notebook and hasattr(record, "parts"):
            return False
        hidden = (plan_logger.name, step_logger.name) if self._console.is_terminal or notebook else (plan_logger.name,)
        return record.name not in hidden and bool(super().filter(record))

    def format(self, record: logging.LogRecord) -> str:
        """Format the message, with its level and logger unless it is an ordinary message of aip."""
        return super().format(with_origin(record, level=True))

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message; warnings and errors in colour."""
        style = "red" if record.levelno >= logging.ERROR else "yellow" if record.levelno >= logging.WARNING else ""
        parts: Sequence[Sequence[str]] = getattr(record, "parts", ())
        try:
            text = self.format(record)
        except Exception:
            # As in every handler, a message with wrong arguments is reported and does not end the run.
            self.handleError(record)
            return
        if parts and self._console.is_terminal:
            for line in _lines(parts, self._console.width):
                self._console.print(line, soft_wrap=True)
        else:
            # The terminal wraps commands and paths, so that they can be copied.
            prose = self._console.is_terminal and getattr(record, "prose", False)
            self._console.print(Text(redacted(text), style=style), soft_wrap=not prose)


class ConsoleReporter(Reporter):
    """A reporter that shows a run on the console, and writes the same to the log file."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._progress: Progress | None = None
        self._task: Any = None
        self._room = 0
        self._epochs = 0
        self._last_step = -STEP_SECONDS
        self._widths: dict[str, int] = {}

    def plan(self, rows: list[tuple[str, str]]) -> None:
        """Show a table of headings and texts."""
        for heading, text in rows:
            plan_logger.info("%s: %s", heading, text)
        if not self._quiet:
            self._show_plan(rows)

    def _show_plan(self, rows: list[tuple[str, str]]) -> None:
        if not self._has_room:
            width = max(len(heading) for heading, _ in rows)
            for heading, text in rows:
                self._console.print(Text(f"{heading:<{width}}  {text}"), soft_wrap=True)
        else:
            table = Table.grid(padding=(0, 2))
            table.add_column(style="bold")
            table.add_column(overflow="fold")
            for heading, text in rows:
                table.add_row(heading, Text(text))
            self._console.print(table)
        self._console.print()

    def warm_start(self, done: WarmStart) -> None:
        """Show a table of all variables. On the terminal, many variables loaded under their own names share a line."""
        lines = warm_start_lines(done.rows)
        for line in lines:
            plan_logger.info("%s", line)
        if self._quiet:
            return
        shown = lines if len(lines) <= MOST_ROWS else warm_start_lines(done.rows, brief=True)
        self._console.print(Text("\n".join(shown)), soft_wrap=True)

    def message(self, text: str) -> None:
        """Show a line above the progress bar."""
        logger.info(text, extra={"prose": True})

    def warning(self, text: str) -> None:
        """Show a yellow line, even with `--quiet`."""
        logger.warning(text, extra={"prose": True})

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        """Start a new progress bar."""
        if self._quiet or not self._has_room:
            return
        # On narrow terminals, values are dropped first. Otherwise rich would squeeze the bar and cut the time in half.
        bar = 40 if self._console.width >= WIDE else 10
        self._progress = Progress(
            TextColumn(f"epoch {epoch:>{len(str(epochs))}}/{epochs}"),
            BarColumn(bar, table_column=Column(no_wrap=True)),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[values]}", style="cyan"),
            console=self._console,
            transient=True,
        )
        taken = len(f"epoch {epochs}/{epochs}") + bar + 2 * len(f"{steps}") + len("/ 00:00 ") + 5
        self._room = self._console.width - taken
        self._task = self._progress.add_task("", total=steps, rate="", values="")
        self._progress.start()

    def progress(self, step: int, samples: int, logs: Mapping[str, float]) -> None:
        """Move the progress bar."""
        if self._progress is None:
            return
        task = self._progress.tasks[0]
        per_step = samples / max(1, step - task.completed)
        elapsed = task.elapsed or 0.0
        rate = f"{step * per_step / elapsed:,.0f} samples/s" if elapsed > 0 else ""
        shown = dict(logs)
        while shown and len(values_text(shown)) > self._room - len(rate):
            shown.popitem()
        self._progress.update(self._task, completed=step, rate=rate, values=values_text(shown))

    def step_logged(self, report: StepReport) -> None:
        """Show one line, at most once every `STEP_SECONDS`. On a terminal, it is only in the log file."""
        now = time.monotonic()
        if now - self._last_step >= STEP_SECONDS:
            self._last_step = now
            place = f"step {report.step:,}  epoch {report.epoch}/{report.epochs}"
            step_logger.info("%s  %s", place, values_text(report.logs))

    def validated(self, report: ValidationReport) -> None:
        """Show one line for a validation within an epoch."""
        self._show(f"step {report.step:,}  {_duration(report.seconds):>6}", report)

    def epoch_ended(self, report: EpochReport) -> None:
        """Show one line for the epoch."""
        self._stop_progress()
        self._epochs += 1
        start = f"epoch {report.epoch:>{len(str(report.epochs))}}/{report.epochs}  {_duration(report.seconds):>6}"
        self._show(start, report, report.lav)

    def _show(self, start: str, report: EpochReport | ValidationReport, lav: Sequence[str] = ()) -> None:
        parts = list(self._values_by_part(report.logs, lav))
        if report.is_best:
            parts.append([BEST if report.previous_best is None else f"{BEST}, was {_number(report.previous_best)}"])
        # One line in the log. A terminal may be too narrow for it.
        line = f"{start}  {' | '.join(map('  '.join, parts))}"
        logger.info("%s", line.rstrip(), extra={"parts": [[start], *parts]})

    def summary(self, result: TrainResult) -> None:
        """Show the result, the saved folders and the next commands."""
        self._stop_progress()
        more, total = ("", "") if self._epochs == result.epochs else ("more ", f" ({result.epochs:,} total)")
        ended, noun = {
            "finished": ("Trained", "epoch"),
            "stopped": ("Stopped early after", "epoch"),
            "interrupted": ("Interrupted after", "complete epoch"),
        }[result.status]
        updates = f", {count(result.updates, 'update')}," if result.partial else ""
        line = f"{ended} {count(self._epochs, more + noun)}{total}{updates} in {_duration(result.seconds)}."
        if result.best is not None:
            after = f" after {count(result.best_step or 0, 'update')}" if result.validations else ""
            line += f" Best {result.monitor}: {_number(result.best)} in epoch {result.best_epoch}{after}."
        folder = result.output_dir or Path()
        rows = [(SAVED[name], str(folder / name)) for name in result.saved]
        if result.output_dir is not None:
            rows.append(("curves", f"tensorboard --logdir {shlex.quote(str(folder / 'tensorboard'))}"))
        if result.profiled is not None:
            batches = " to ".join(map(str, dict.fromkeys(result.profiled)))
            rows.append(("profile", f"batches {batches}, in TensorBoard: pip install 'aipcore[profile]'"))
        if result.memory is not None and (memory := str(result.memory)):
            rows.append(("peak memory", memory))
        if not self._quiet and not self._console.is_jupyter:
            self._console.print()
        logger.info("%s%s", line, "" if result.saved else " Nothing was saved.")
        for row in rows:
            logger.info("%-11s  %s", *row)
        if result.resume:
            logger.info("Resume with: %s", result.resume)

    def close(self) -> None:
        """Restore the terminal, however the run ended."""
        self._stop_progress()

    @property
    def _has_room(self) -> bool:
        return self._console.is_terminal and self._console.width >= NARROW

    def _values_by_part(self, given: Mapping[str, float], lav: Sequence[str]) -> Iterator[list[str]]:
        """Yield the values of training with the learning rate, of validation and of each LAV list."""
        # The EMA rate is constant, and already in the plan.
        logs = {name: value for name, value in given.items() if not name.endswith("ema_rate")}
        headings = {"train": "", "validation": "val "}
        for part, values in by_part(logs, lav).items():
            texts = []
            for name, value in values.items():
                # A column keeps the width of its widest value, so that the lines of all epochs are aligned.
                text, column = value_text(name, value), f"{part} {name}"
                self._widths[column] = max(len(text), self._widths.get(column, 0))
                texts.append(text.ljust(self._widths[column]))
            # `lav_NAME` is the part of the list NAME.
            texts[0] = headings.get(part, f"{part.replace('_', ' ', 1)} ") + texts[0]
            yield texts

    def _stop_progress(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _lines(parts: Sequence[Sequence[str]], width: int) -> Iterator[Text]:
    """Wrap the line of an epoch at the terminal width: between two parts, otherwise between two values."""
    (start,), *rest = parts
    indent = len(start) + 2
    line = Text(f"{start}  ")
    for part in rest:
        whole = "  ".join(part).rstrip()
        values = [whole] if indent + len(whole) <= width else [value.rstrip() for value in part]
        for number, value in enumerate(values):
            between = "  " if number else " | "
            split = len(values) > 1 and not number
            if line.cell_len == indent:
                between = ""
            elif split or line.cell_len + len(between) + len(value) > width:
                yield line
                line, between = Text(" " * (indent + 2 * bool(number))), ""
            line.append(between, style="dim")
            line.append(value, style="bold green" if whole.startswith(BEST) else "")
    yield line


def values_text(logs: Mapping[str, float]) -> str:
    """Return values by name in one line."""
    return "  ".join(value_text(*each) for each in logs.items())


def value_text(name: str, value: float) -> str:
    """Return a value after its name, as in the line of an epoch."""
    if name == SAMPLES_PER_SECOND:
        return f"{value:,.0f} samples/s"
    if name == "learning_rate" or name.endswith("_lr"):
        return f"{name.replace('learning_rate', 'lr')} {value:.2e}"
    return f"{name} {_number(value)}"


def _number(value: float) -> str:
    return f"{value:.4f}" if value == 0 or 0.01 <= abs(value) < 10000 else f"{value:#.4g}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2f}s" if seconds < 10 else f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m" if hours else f"{minutes}m {rest:02d}s"
