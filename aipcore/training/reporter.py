"""What training tells whoever started it; the command line prints it, a notebook or a test may do otherwise."""

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
        seconds: how long it took, validation included.
        logs: losses, metrics and learning rate; those of validation begin with `val_`, those of LAV with `lav_`.
        monitor: the monitored value's name.
        previous_best: the best monitored value before this epoch.
        is_best: whether this epoch improved it.
        lav: the parts of the extended validation that ran: `lav`, or `lav_NAME` for lists of its own.
    """

    epoch: int
    epochs: int
    seconds: float
    logs: Mapping[str, float]
    monitor: str
    previous_best: float | None
    is_best: bool
    lav: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class PeakMemory:
    """The most memory that a run took, in bytes.

    Attributes:
        process: of the process that trained; 0 where the system does not say.
        workers: of all data workers at the end of the run; what they share counts once.
        worker_processes: how many these are.
        gpus: of TensorFlow's tensors on each GPU, by its name, such as "GPU:0".
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
    """How a run ended.

    Attributes:
        status: "finished" after all epochs, "stopped" early (by `early_stopping` or a callback), "interrupted" by a
            signal.
        output_dir: the run's folder; None if nothing was written.
        epochs: epochs completed.
        history: the logs of each completed epoch.
        monitor: the monitored value's name.
        best: the best monitored value, None if none was measured.
        best_epoch: its epoch, counted from 1.
        seconds: from the first batch to the end, exports included.
        saved: the names within `output_dir` of what can be used now.
        signal: the number of the signal that interrupted the run, else None.
        profiled: the first and the last batch of the profile, counted over the run from 1, None without a profile.
        memory: the most that the run took.
        model: the Keras model with its final weights: those of `export`, averaged ones with `trainer.calc_ema`. None if
            a resumed run had nothing more to train.
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
    signal: int | None = None
    profiled: tuple[int, int] | None = None
    memory: PeakMemory | None = None
    model: Any = attrs.field(default=None, eq=False, repr=False)


def nothing_to_train(result: TrainResult) -> str:
    """Return the sentence on a trainer that has trained already."""
    ended = {"finished": "has finished its", "stopped": "stopped after", "interrupted": "was interrupted after"}
    how = "to train further, make a new trainer"
    if result.status == "interrupted" and result.output_dir is not None:
        how = f"aipcore.resume({str(result.output_dir)!r}) continues it"
    epochs = count(result.epochs, "epoch")
    return f"The run {ended[result.status]} {epochs}, so there is nothing to train; {how}."


class Reporter:
    """Hears of a run's progress; this one keeps silent. Override what is of interest."""

    def plan(self, rows: list[tuple[str, str]]) -> None:
        """The plan before the first batch: pairs of a heading and its text."""

    def warm_start(self, done: WarmStart) -> None:
        """The weights that the run begins with, after the plan, if it does not begin with fresh ones."""

    def message(self, text: str) -> None:
        """One sentence for the user."""

    def warning(self, text: str) -> None:
        """One sentence that the user should not miss; a message unless overridden."""
        self.message(text)

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        """An epoch (counted from 1) of `steps` batches begins."""

    def progress(self, step: int, samples: int, logs: Mapping[str, float]) -> None:
        """`step` batches of the epoch are done, the last chunk having `samples` samples; `logs` are means so far."""

    def epoch_ended(self, report: EpochReport) -> None:
        """An epoch is done."""

    def stop_reason(self) -> str:
        """Asked after each epoch but the last: why the run is to end here, as a sentence, or "" to go on.

        Such a run counts as stopped, and `aip resume` goes on with it, unlike with one that stopped by itself.
        """
        return ""

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

    def epoch_ended(self, report: EpochReport) -> None:
        """See `Reporter`."""
        for reporter in self._reporters:
            reporter.epoch_ended(report)

    def stop_reason(self) -> str:
        """What the first of them says that wants to stop."""
        return next(filter(None, [reporter.stop_reason() for reporter in self._reporters]), "")

    def summary(self, result: TrainResult) -> None:
        """See `Reporter`."""
        for reporter in self._reporters:
            reporter.summary(result)


def by_part(logs: Mapping[str, float], lav: Sequence[str]) -> dict[str, dict[str, float]]:
    """The values of an epoch by where they come from, under the names that they have in common.

    Args:
        logs: all values; those of validation begin with `val_`, those of a LAV list with its part's name and `_`.
        lav: the parts of the extended validation that ran, such as `lav` or `lav_NAME`.

    Returns:
        `train`, then `validation` if there is any, then the parts of the extended validation in their order.
    """
    # The longest names first: a list may be called like the beginning of another.
    prefixes = {**{f"{part}_": part for part in sorted(lav, key=len, reverse=True)}, "val_": "validation"}
    parts: dict[str, dict[str, float]] = {name: {} for name in ("train", "validation", *lav)}
    for name, value in logs.items():
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
        parts[prefixes.get(prefix, "train")][name.removeprefix(prefix)] = value
    return {name: values for name, values in parts.items() if values}
