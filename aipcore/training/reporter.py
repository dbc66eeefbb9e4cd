"""What training tells whoever started it; the command line prints it, a notebook or a test may do otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import attrs


@attrs.frozen(kw_only=True)
class EpochReport:
    """One finished epoch.

    Attributes:
        epoch: counted from 1.
        epochs: epochs in the run.
        seconds: how long it took, validation included.
        logs: losses, metrics and learning rate; those of validation begin with `val_`, those of LAV with `lav_`.
        monitor: the monitored value's name.
        previous_best: the best monitored value before this epoch.
        is_best: whether this epoch improved it.
    """

    epoch: int
    epochs: int
    seconds: float
    logs: Mapping[str, float]
    monitor: str
    previous_best: float | None
    is_best: bool


@attrs.frozen(kw_only=True)
class TrainResult:
    """How a run ended.

    Attributes:
        status: "finished" after all epochs, "stopped" early (by `early_stopping` or a callback), "interrupted" by a
            signal.
        output_dir: the run's folder.
        epochs: epochs completed.
        history: the logs of each completed epoch.
        monitor: the monitored value's name.
        best: the best monitored value, None if none was measured.
        best_epoch: its epoch, counted from 1.
        seconds: from the first batch to the end, exports included.
        saved: the names within `output_dir` of what can be used now.
        signal: the number of the signal that interrupted the run, else None.
    """

    status: Literal["finished", "stopped", "interrupted"]
    output_dir: Path
    epochs: int
    history: list[dict[str, float]]
    monitor: str
    best: float | None
    best_epoch: int | None
    seconds: float
    saved: list[str]
    signal: int | None = None


class Reporter:
    """Hears of a run's progress; this one keeps silent. Override what is of interest."""

    def plan(self, rows: list[tuple[str, str]]) -> None:
        """The plan before the first batch: pairs of a heading and its text."""

    def message(self, text: str) -> None:
        """One sentence for the user."""

    def warning(self, text: str) -> None:
        """One sentence that the user should not miss; by default like any other."""
        self.message(text)

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        """An epoch (counted from 1) of `steps` batches begins."""

    def progress(self, step: int, samples: int, logs: Mapping[str, float]) -> None:
        """`step` batches of the epoch are done, the last chunk having `samples` samples; `logs` are means so far."""

    def epoch_ended(self, report: EpochReport) -> None:
        """An epoch is done."""

    def summary(self, result: TrainResult) -> None:
        """The run is over."""


class Reporters(Reporter):
    """Tells several reporters the same."""

    def __init__(self, *reporters: Reporter) -> None:
        self._reporters = reporters

    def plan(self, rows: list[tuple[str, str]]) -> None:
        """See `Reporter`."""
        for reporter in self._reporters:
            reporter.plan(rows)

    def message(self, text: str) -> None:
        """See `Reporter`."""
        for reporter in self._reporters:
            reporter.message(text)

    def warning(self, text: str) -> None:
        """See `Reporter`."""
        for reporter in self._reporters:
            reporter.warning(text)

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        """See `Reporter`."""
        for reporter in self._reporters:
            reporter.epoch_started(epoch, epochs, steps)

    def progress(self, step: int, samples: int, logs: Mapping[str, float]) -> None:
        """See `Reporter`."""
        for reporter in self._reporters:
            reporter.progress(step, samples, logs)

    def epoch_ended(self, report: EpochReport) -> None:
        """See `Reporter`."""
        for reporter in self._reporters:
            reporter.epoch_ended(report)

    def summary(self, result: TrainResult) -> None:
        """See `Reporter`."""
        for reporter in self._reporters:
            reporter.summary(result)
