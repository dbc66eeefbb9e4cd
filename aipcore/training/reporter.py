"""Progress events and results of a run. The command line prints them; notebooks and tests can use other reporters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs

from aipcore.params.names import count
from aipcore.training.warmstart.matching import WarmStart


@attrs.frozen(kw_only=True)
class EpochReport:
    """One finished epoch.

    Attributes:
        epoch: counted from 1.
        epochs: epochs in the run.
        seconds: duration, including validation.
        logs: losses, metrics and learning rate; names of validation values begin with `val_`, those of LAV with `lav_`.
        monitor: the monitored value's name.
        mode: the better direction of the monitored value.
        previous_best: the best monitored value before this epoch.
        is_best: True if this epoch improved it.
        lav: the parts of LAV that ran: `lav`, or `lav_NAME` for separate lists.
    """

    epoch: int
    epochs: int
    seconds: float
    logs: Mapping[str, float]
    monitor: str
    mode: Literal["min", "max"]
    previous_best: float | None
    is_best: bool
    lav: tuple[str, ...] = ()


SAMPLES_PER_SECOND = "samples_per_second"
"""The name of the throughput among the logged values."""


@attrs.frozen(kw_only=True)
class StepReport:
    """The values of a run at an optimizer update (`trainer.log_every_steps`).

    Attributes:
        step: optimizer updates since the start of the run.
        epoch: the current epoch, counted from 1.
        epochs: epochs in the run.
        logs: losses and metrics of the epoch so far, the learning rate of the update, and `SAMPLES_PER_SECOND`.
    """

    step: int
    epoch: int
    epochs: int
    logs: Mapping[str, float]


@attrs.frozen(kw_only=True)
class ValidationReport:
    """A validation within an epoch (`trainer.val_every_steps`).

    Attributes:
        step: optimizer updates since the start of the run.
        epoch: the current epoch, counted from 1.
        epochs: epochs in the run.
        seconds: duration of the validation.
        logs: losses and metrics of the epoch so far, the learning rate, and the results, which begin with `val_`.
        monitor: the monitored value's name.
        mode: the better direction of the monitored value.
        previous_best: the best monitored value before.
        is_best: True if this validation improved it.
    """

    step: int
    epoch: int
    epochs: int
    seconds: float
    logs: Mapping[str, float]
    monitor: str
    mode: Literal["min", "max"]
    previous_best: float | None
    is_best: bool


@attrs.frozen(kw_only=True)
class PeakMemory:
    """The peak memory of a run, in bytes.

    Attributes:
        process: memory of the training process; 0 if the system does not report it.
        workers: memory of all worker processes at the end of the run; shared memory counts once.
        worker_processes: number of worker processes.
        gpus: memory of TensorFlow's tensors on each GPU, by its name, such as "GPU:0".
    """

    process: int
    workers: int = 0
    worker_processes: int = 0
    gpus: Mapping[str, int] = attrs.field(factory=dict)

    def __str__(self) -> str:
        parts = [_mib(self.process)] if self.process else []
        if self.workers:
            parts.append(f"{_mib(self.workers)} in {count(self.worker_processes, 'worker process')}")
        parts += [f"{_mib(size)} on {name}" for name, size in self.gpus.items()]
        return ", ".join(parts)


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


@attrs.frozen(kw_only=True)
class TrainResult:
    """The result of a run.

    Attributes:
        status: "finished" after all epochs, "stopped" early (by `early_stopping` or a callback), "interrupted" by a
            signal.
        output_dir: the run folder; None if nothing was written.
        epochs: completed epochs.
        history: the logs of each completed epoch.
        monitor: the monitored value's name.
        best: the best monitored value; None if none was measured.
        best_epoch: the epoch of the best value, counted from 1.
        best_step: the optimizer updates before the best value.
        updates: completed optimizer updates.
        validations: with `trainer.val_every_steps`, the results of each validation, with its `step` and `epoch`.
        partial: True if `trainer.max_steps` ended the last epoch before its last batch.
        seconds: duration from the first batch to the end, including exports.
        saved: the names of the usable folders in `output_dir`.
        signal: the number of the signal that interrupted the run, else None.
        resume: the command that resumes an interrupted run; empty if it has ended or has no checkpoint.
        profiled: the first and the last batch of the profile, counted over the run from 1; None without a profile.
        memory: the peak memory of the run.
        model: the Keras model with its final weights: those of `export`, averaged ones with `trainer.calc_ema`. None if
            a resumed run had nothing left to train.
        folds: the results of the folds of a cross-validation, without their models.
        mean: the mean of each value over the folds, each in its best epoch; empty unless all folds have ended.
        deviation: the sample standard deviation of each value over the folds.
    """

    status: Literal["finished", "stopped", "interrupted"]
    output_dir: Path | None
    epochs: int
    history: list[dict[str, float]]
    monitor: str
    best: float | None
    best_epoch: int | None
    seconds: float
    saved: list[str]
    best_step: int | None = None
    updates: int = 0
    validations: list[dict[str, float]] = attrs.field(factory=list)
    partial: bool = False
    signal: int | None = None
    resume: str = ""
    profiled: tuple[int, int] | None = None
    memory: PeakMemory | None = None
    model: Any = attrs.field(default=None, eq=False, repr=False)
    folds: Sequence[TrainResult] = ()
    mean: Mapping[str, float] = attrs.field(factory=dict)
    deviation: Mapping[str, float] = attrs.field(factory=dict)

    def _repr_html_(self) -> str:
        from aipcore.console import html_table

        best = "" if self.best is None else f"{self.monitor} {self.best:.6g} in epoch {self.best_epoch}"
        values = {**(self.history[-1] if self.history else {}), **self.mean}
        rows = [("run", f"{self.status} after {count(self.epochs, 'epoch')}"), ("best", best)]
        rows += [("folder", str(self.output_dir)), *((name, f"{value:.6g}") for name, value in values.items())]
        return html_table(rows)


def nothing_to_train(result: TrainResult) -> str:
    """Return the message for a trainer that has already trained."""
    ended = "was interrupted" if result.status == "interrupted" else result.status
    how = "Create a new trainer to train further"
    if result.status == "interrupted" and result.output_dir is not None:
        how = f"Resume it with aipcore.resume({str(result.output_dir)!r})"
    return f"The run {ended} after {count(result.epochs, 'epoch')}, so this trainer has nothing to train. {how}."


class Reporter:
    """A receiver of progress events. The base class ignores them; override the methods of interest."""

    def plan(self, rows: list[tuple[str, str]]) -> None:
        """Receive the plan before the first batch: pairs of a heading and its text."""

    def warm_start(self, done: WarmStart) -> None:
        """Receive the loaded initial weights, after the plan, if the run has a warm start."""

    def message(self, text: str) -> None:
        """Receive one sentence for the user."""

    def warning(self, text: str) -> None:
        """Receive an important sentence for the user; by default treated as a message."""
        self.message(text)

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        """Receive the start of an epoch (counted from 1) of `steps` batches."""

    def progress(self, step: int, samples: int, logs: Mapping[str, float]) -> None:
        """Receive progress: `step` batches of the epoch are done.

        Args:
            step: completed batches of the epoch.
            samples: samples in the last chunk.
            logs: means so far.
        """

    def step_logged(self, report: StepReport) -> None:
        """Receive the values at an optimizer update."""

    def validated(self, report: ValidationReport) -> None:
        """Receive a validation within an epoch."""

    def epoch_ended(self, report: EpochReport) -> None:
        """Receive the end of an epoch."""

    def stop_reason(self) -> str:
        """Return the reason to end the run here, as a sentence, or "" to continue.

        Called after each epoch but the last. The run then counts as stopped, but `aip resume` continues it, unlike a
        run that early stopping or a callback has stopped.
        """
        return ""

    def summary(self, result: TrainResult) -> None:
        """Receive the end of the run."""


class Reporters(Reporter):
    """A reporter that forwards all events to several reporters."""

    def __init__(self, *reporters: Reporter) -> None:
        self._reporters = reporters

    def plan(self, rows: list[tuple[str, str]]) -> None:
        """See `Reporter`."""
        for reporter in self._reporters:
            reporter.plan(rows)

    def warm_start(self, done: WarmStart) -> None:
        """See `Reporter`."""
        for reporter in self._reporters:
            reporter.warm_start(done)

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

    def step_logged(self, report: StepReport) -> None:
        """See `Reporter`."""
        for reporter in self._reporters:
            reporter.step_logged(report)

    def validated(self, report: ValidationReport) -> None:
        """See `Reporter`."""
        for reporter in self._reporters:
            reporter.validated(report)

    def epoch_ended(self, report: EpochReport) -> None:
        """See `Reporter`."""
        for reporter in self._reporters:
            reporter.epoch_ended(report)

    def stop_reason(self) -> str:
        """Return the reason of the first reporter that wants to stop."""
        return next(filter(None, [reporter.stop_reason() for reporter in self._reporters]), "")

    def summary(self, result: TrainResult) -> None:
        """See `Reporter`."""
        for reporter in self._reporters:
            reporter.summary(result)


def by_part(logs: Mapping[str, float], lav: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the values of an epoch by part, under the names that the parts share.

    Args:
        logs: all values; names of validation values begin with `val_`, those of a LAV list with its part's name and
            `_`.
        lav: the parts of LAV that ran, such as `lav` or `lav_NAME`.

    Returns:
        `train`, then `validation` if there is any, then the LAV parts in order.
    """
    # Longest names first: one list's name may be the prefix of another's.
    prefixes = {**{f"{part}_": part for part in sorted(lav, key=len, reverse=True)}, "val_": "validation"}
    parts: dict[str, dict[str, float]] = {name: {} for name in ("train", "validation", *lav)}
    for name, value in logs.items():
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
        parts[prefixes.get(prefix, "train")][name.removeprefix(prefix)] = value
    return {name: values for name, values in parts.items() if values}
