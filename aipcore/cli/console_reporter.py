"""Training on the terminal: a plan, one progress bar, one line an epoch, a summary. Not a terminal: plain lines."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from aipcore.training.reporter import EpochReport, Reporter, TrainResult

logger = logging.getLogger("aipcore.training")
plan_logger = logging.getLogger("aipcore.plan")

KEPT = {
    "best": "the model of the best epoch",
    "export": "the final model",
    "checkpoint": "the full state after the last saved batch",
}
"""What the folders of a run hold."""


class ConsoleHandler(logging.Handler):
    """Prints log messages above the progress bar; the plan has its own table and is left to the file."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        super().__init__(logging.WARNING if quiet else logging.NOTSET)
        self._console = console

    def filter(self, record: logging.LogRecord) -> bool:
        """Leaves out the plan."""
        return record.name != plan_logger.name and bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one message; warnings and errors in colour."""
        style = "red" if record.levelno >= logging.ERROR else "yellow" if record.levelno >= logging.WARNING else ""
        self._console.print(Text(self.format(record), style=style), soft_wrap=True)


class ConsoleReporter(Reporter):
    """Shows a run to a person, and tells the same to the log file."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._progress: Progress | None = None
        self._task: Any = None

    def plan(self, rows: list[tuple[str, str]]) -> None:
        """A table of headings and texts."""
        for heading, text in rows:
            plan_logger.info("%s: %s", heading, text)
        if self._quiet:
            return
        if not self._console.is_terminal:
            width = max(len(heading) for heading, _ in rows)
            for heading, text in rows:
                self._console.print(Text(f"{heading:<{width}}  {text}"), soft_wrap=True)
            return
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for heading, text in rows:
            table.add_row(heading, Text(text))
        self._console.print(table)

    def message(self, text: str) -> None:
        """A line above the progress bar."""
        logger.info(text)

    def warning(self, text: str) -> None:
        """A coloured line above the progress bar."""
        logger.warning(text)

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        """A new progress bar."""
        if self._quiet or not self._console.is_terminal:
            return
        self._progress = Progress(
            TextColumn(f"epoch {epoch:>{len(str(epochs))}}/{epochs}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} batches"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[values]}", style="cyan"),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=steps, rate="", values="")
        self._progress.start()

    def progress(self, step: int, samples: int, logs: Mapping[str, float]) -> None:
        """Moves the bar."""
        if self._progress is None:
            return
        task = self._progress.tasks[0]
        per_step = samples / max(1, step - task.completed)
        elapsed = task.elapsed or 0.0
        rate = f"{step * per_step / elapsed:,.0f} samples/s" if elapsed > 0 else ""
        self._progress.update(self._task, completed=step, rate=rate, values=_values(logs))

    def epoch_ended(self, report: EpochReport) -> None:
        """One line."""
        self._stop_progress()
        line = f"epoch {report.epoch:>{len(str(report.epochs))}}/{report.epochs}  {_seconds(report.seconds):>6}  "
        line += _grouped(report.logs)
        if report.is_best:
            line += "  best" if report.previous_best is None else f"  best, was {_number(report.previous_best)}"
        logger.info(line)

    def summary(self, result: TrainResult) -> None:
        """How it ended, what there is now, and what to do next."""
        self._stop_progress()
        ends = {
            "finished": f"Trained {result.epochs} epochs in {_seconds(result.seconds)}.",
            "stopped": f"Stopped early, in epoch {result.epochs}, after {_seconds(result.seconds)}.",
            "interrupted": f"Interrupted after {result.epochs} complete epochs, {_seconds(result.seconds)}.",
        }
        lines = [ends[result.status]]
        if result.best is not None:
            lines[0] += f" Best {result.monitor}: {_number(result.best)} in epoch {result.best_epoch}."
        lines += [f"  {result.output_dir / name}: {KEPT[name]}" for name in result.saved]
        if not result.saved:
            lines.append("  Nothing was saved.")
        lines.append(f"See the curves: tensorboard --logdir {result.output_dir / 'tensorboard'}")
        for line in lines:
            logger.info(line)

    def close(self) -> None:
        """Gives the terminal back, however the run ended."""
        self._stop_progress()

    def _stop_progress(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _grouped(logs: Mapping[str, float]) -> str:
    """Training, validation and extended validation side by side, then the learning rate."""
    groups: dict[str, dict[str, float]] = {"": {}, "val": {}, "lav": {}}
    for name, value in logs.items():
        prefix, _, rest = name.partition("_")
        group, short = (prefix, rest) if prefix in ("val", "lav") and rest else ("", name)
        if short != "learning_rate":
            groups[group][short] = value
    parts = [f"{group} {_values(values)}".lstrip() for group, values in groups.items() if values]
    if "learning_rate" in logs:
        parts.append(f"lr {logs['learning_rate']:.3g}")
    return " | ".join(parts)


def _values(logs: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {_number(value)}" for name, value in logs.items())


def _number(value: float) -> str:
    return f"{value:.4f}" if 0.01 <= abs(value) < 10000 else f"{value:.4g}"


def _seconds(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d} min"
