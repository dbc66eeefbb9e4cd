"""Training progress as JSON lines, one event per line, for programs that monitor a run."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from aipcore.errors import UsageError
from aipcore.streams import LineFile
from aipcore.training.reporter import EpochReport, Reporter, StepReport, TrainResult, ValidationReport
from aipcore.training.warmstart.matching import WarmStart

logger = logging.getLogger("aipcore.training")


class JsonReporter(Reporter):
    """Reporter that writes one line per event to a file, immediately."""

    def __init__(self, path: Path) -> None:
        def cannot_write(error: OSError) -> None:
            logger.warning("--json-log %s cannot be written (%s). The run continues without it.", path, error.strerror)

        try:
            self._file = LineFile(path, "x", cannot_write)
        except FileExistsError as error:
            raise UsageError(f"--json-log {path} already exists. Choose a new file.") from error
        except OSError as error:
            raise UsageError(f"--json-log {path} cannot be written ({error.strerror}). Choose another file.") from error

    def plan(self, rows: list[tuple[str, str]]) -> None:
        """Write the plan."""
        self._write("plan", dict(rows))

    def warm_start(self, done: WarmStart) -> None:
        """Write the warm start: each variable with its outcome."""
        rows = [
            {"path": row.path or None, "source": row.source or None, "shape": row.shape,
             "source_shape": row.source_shape, "status": row.status, "adapted": row.adapted}
            for row in done.rows
        ]  # fmt: skip
        self._write("warm_start", {"model": str(done.path), "kind": done.kind, "variables": rows})

    def message(self, text: str) -> None:
        """Write a message."""
        self._write("message", {"level": "info", "text": text})

    def warning(self, text: str) -> None:
        """Write a warning as a message."""
        self._write("message", {"level": "warning", "text": text})

    def step_logged(self, report: StepReport) -> None:
        """Write the values at an update."""
        self._write("step", {"step": report.step, "epoch": report.epoch, "logs": dict(report.logs)})

    def validated(self, report: ValidationReport) -> None:
        """Write the results of a validation within an epoch."""
        self._write(
            "validation",
            {"step": report.step, "epoch": report.epoch, "seconds": report.seconds, "is_best": report.is_best,
             "logs": dict(report.logs)},
        )  # fmt: skip

    def epoch_ended(self, report: EpochReport) -> None:
        """Write the results of an epoch."""
        self._write(
            "epoch",
            {"epoch": report.epoch, "epochs": report.epochs, "seconds": report.seconds, "is_best": report.is_best,
             "lav": list(report.lav), "logs": dict(report.logs)},
        )  # fmt: skip

    def summary(self, result: TrainResult) -> None:
        """Write the end of the run."""
        self._write(
            "summary",
            {"status": result.status, "epochs": result.epochs, "updates": result.updates,
             "output_dir": None if result.output_dir is None else str(result.output_dir),
             "monitor": result.monitor, "best": result.best, "best_epoch": result.best_epoch,
             "best_step": result.best_step,
             "seconds": result.seconds, "saved": result.saved,
             "profiled": result.profiled,
             "memory": None if result.memory is None else attrs.asdict(result.memory)},
        )  # fmt: skip

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, event: str, content: Mapping[str, Any]) -> None:
        self._file.write(json.dumps({"event": event, **_finite(content)}) + "\n")


def _finite(value: Any) -> Any:
    # JSON has neither NaN nor infinity. Readers of such logs expect null.
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return value
