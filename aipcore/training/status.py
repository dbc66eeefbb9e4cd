"""The status of a run in its `status.json`: written while the run trains, read by `aip runs`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

from aipcore.errors import AipError, FolderMovedError, sentence
from aipcore.files import read_json
from aipcore.params.secret import redacted
from aipcore.training.checkpoint.atomic import write_file
from aipcore.training.reporter import EpochReport, Reporter, TrainResult, ValidationReport

STATUS = "status.json"

STATUS_BYTES = 2**16
"""Maximum size of the file, in bytes."""

REASON = 500
"""Maximum length of a recorded reason, in characters."""


@attrs.frozen(kw_only=True)
class Status:
    """The status of a run.

    Attributes:
        state: one of `STATES`; "running" until the run has ended. A killed run remains "running".
        reason: the error of a failed run.
        epochs: completed epochs.
        monitor: the monitored value's name.
        mode: the better direction of that value, "min" or "max".
        best: the best monitored value; None before the first.
        best_epoch: the epoch of the best value, counted from 1.
        best_step: the optimizer updates before the best value.
        updates: completed optimizer updates.
        started: the time of the first start, in UTC and ISO 8601.
    """

    state: str = "running"
    reason: str = ""
    epochs: int = 0
    monitor: str = ""
    mode: str = ""
    best: float | None = None
    best_epoch: int | None = None
    best_step: int | None = None
    updates: int | None = None
    started: str = ""


STATES = ("running", "finished", "stopped", "interrupted", "failed")


def read_status(folder: Path) -> Status | None:
    """Return the status of a run; None if there is none, or if it is damaged."""
    try:
        content = read_json(folder / STATUS, limit=STATUS_BYTES, follow=False)
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("state") not in STATES:
        return None
    texts = {name: str(content.get(name) or "") for name in ("state", "reason", "monitor", "mode", "started")}
    return Status(
        **texts,
        epochs=max(0, as_whole(content.get("epochs")) or 0),
        best=as_finite(content.get("best")),
        best_epoch=as_whole(content.get("best_epoch")),
        best_step=as_whole(content.get("best_step")),
        updates=as_whole(content.get("updates")),
    )


def as_whole(value: Any) -> int | None:
    """Return a value of a JSON file if it is a whole number of ordinary size, otherwise None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def as_finite(value: Any) -> float | None:
    """Return a value of a JSON file as a float if it is a finite number, otherwise None."""
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def write_status(folder: Path, status: Status) -> None:
    """Write the status of a run. It only informs, so a failed write is ignored, and nothing is flushed to disk."""
    with suppress(OSError):
        write_file(folder / STATUS, json.dumps(attrs.asdict(status), indent=1) + "\n", flush=False)


def earlier_status(folder: Path) -> Status:
    """Return the status of a run that is resumed, or that of a new run."""
    return read_status(folder) or Status(started=datetime.now(UTC).isoformat(timespec="seconds"))


class StatusReporter(Reporter):
    """Writes the status of a run to its folder after each epoch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._status: Status | None = None

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        """Record the start of the first epoch of this process."""
        del epochs, steps
        if self._status is None:
            self._status = earlier_status(self._folder)
            self._write(state="running", reason="", epochs=epoch - 1)

    def epoch_ended(self, report: EpochReport) -> None:
        """Record the epoch."""
        changes: dict[str, Any] = {"epochs": report.epoch, "monitor": report.monitor, "mode": report.mode}
        if report.is_best:
            changes |= {"best": float(report.logs[report.monitor]), "best_epoch": report.epoch, "best_step": None}
        self._write(**changes)

    def validated(self, report: ValidationReport) -> None:
        """Record a best value within an epoch."""
        if report.is_best:
            best = {"best": float(report.logs[report.monitor]), "best_epoch": report.epoch, "best_step": report.step}
            self._write(monitor=report.monitor, mode=report.mode, **best)

    def summary(self, result: TrainResult) -> None:
        """Record the end of the run."""
        self._status = _ended(self._status or earlier_status(self._folder), result)
        write_status(self._folder, self._status)

    def _write(self, **changes: Any) -> None:
        self._status = attrs.evolve(self._status or earlier_status(self._folder), **changes)
        write_status(self._folder, self._status)


def record_end(folder: Path, result: TrainResult) -> None:
    """Record the end of a run that was killed, or failed, between its last checkpoint and its end."""
    status = read_status(folder)
    if status is not None and status.state not in ("finished", "stopped"):
        write_status(folder, _ended(status, result))


def _ended(status: Status, result: TrainResult) -> Status:
    names = ("epochs", "updates", "monitor", "best", "best_epoch", "best_step")
    return attrs.evolve(status, state=result.status, reason="", **{name: getattr(result, name) for name in names})


@contextmanager
def recorded_failure(folder: Path) -> Iterator[None]:
    """Record an exception as the end of the run in this folder."""
    try:
        yield
    except FolderMovedError:
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, AipError) else sentence(error)
        write_status(folder, attrs.evolve(earlier_status(folder), state="failed", reason=redacted(reason)[:REASON]))
        raise
    except BaseException:
        write_status(folder, attrs.evolve(earlier_status(folder), state="interrupted"))
        raise
