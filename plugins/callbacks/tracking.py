"""The common base of experiment trackers: one run with its own id, fed in the background, and resumed."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import keras
from aip_plugins.callbacks.background import Background
from aip_plugins.callbacks.remote_params import TrackerParams

from aipcore.params.dump import flat, recorded_text
from aipcore.params.names import count
from aipcore.params.secret import redacted
from aipcore.training.callbacks.callback_list import RunEnd
from aipcore.training.callbacks.context import RunContext
from aipcore.training.tensorboard.events import TRAIN_STEPS, VALIDATION_STEPS

logger = logging.getLogger("aipcore.callbacks")

INTERRUPTED_SECONDS = 10.0
"""The most seconds to wait at the end after a signal; `trainer.grace_seconds` covers everything."""

MOST_STEPS = 10_000
"""The most unsent points within epochs. If a tracker is away for longer, the oldest are dropped."""

LONGEST = 5000
"""The most characters of an error."""


@attrs.frozen
class Point:
    """The values of a run at one time.

    Attributes:
        number: the number of the point in the run, from 1.
        axis: "epoch" for the end of an epoch, "step" for an optimizer update within one.
        place: the epoch, counted from 1, or the number of updates.
        when: seconds since 1970.
        values: the values by name.
    """

    number: int = attrs.field(converter=int)
    axis: Literal["epoch", "step"] = attrs.field(validator=attrs.validators.in_(("epoch", "step")))
    place: int = attrs.field(converter=int)
    when: float = attrs.field(converter=float)
    values: dict[str, float] = attrs.field(
        converter=lambda values: {str(name): float(value) for name, value in values.items()}
    )


class Tracker(keras.callbacks.Callback):
    """A tracker of the values of a run, contacted only from a thread.

    The id of the tracker's run is created here and saved in each checkpoint, including the one before the first batch.
    The tracker's run begins after that checkpoint is written. There is therefore one run, even if the process is killed
    at any time. A resumed run gives repeated points the same numbers. Points not yet sent are saved too.

    Args:
        what: the tracker's name.
        options: the tracker's parameters.
        context: the context of the run.
    """

    def __init__(self, what: str, options: TrackerParams, context: RunContext) -> None:
        super().__init__()
        self.context = context
        self.options = options
        self.run_id = uuid.uuid4().hex
        self.run_name = options.run_name or context.output_dir.absolute().name
        self._what = what
        self._number = 0
        self._unsent: dict[int, Point] = {}
        self._opened = False
        self._background = Background(what, retry=True)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begin the tracker's run. `on_train_begin` would be too early: it precedes the state of a resumed run."""
        self._begin()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Send the values of the epoch."""
        self._add("epoch", epoch + 1, logs or {})

    def on_step_logged(self, step: int, logs: Mapping[str, float]) -> None:
        """Send the values of a logged update."""
        self._add("step", step, {f"{TRAIN_STEPS}/{name}": value for name, value in logs.items()})

    def on_step_validation(self, step: int, logs: Mapping[str, float]) -> None:
        """Send the results of a validation within an epoch."""
        results = {name.removeprefix("val_"): value for name, value in logs.items() if name.startswith("val_")}
        self._add("step", step, {f"{VALIDATION_STEPS}/{name}": value for name, value in results.items()})

    def on_run_end(self, end: RunEnd) -> None:
        """Report the end of the run, and wait for pending values."""
        if not self._opened:
            return
        self._background.submit(lambda: self.finish(end, *self._outcome(end)))
        pending = self._background.close(self.options.timeout if end.status != "interrupted" else INTERRUPTED_SECONDS)
        if pending:
            left = sum(each.axis == "epoch" for each in list(self._unsent.values()))
            missing = f" ({count(left, 'epoch')} {'is' if left == 1 else 'are'} missing)" if left else ""
            logger.warning(
                "%s did not receive all data of this run%s. All values are in %s.",
                self._what, missing, self.context.output_dir / "tensorboard",
            )  # fmt: skip

    def get_state(self) -> dict[str, Any]:
        """Return the run's id, the number of points, and the points that the tracker lacks."""
        # The thread removes entries at any time.
        unsent = [attrs.asdict(point) for point in list(self._unsent.values())]
        return {"run_id": self.run_id, "points": self._number, "unsent": unsent}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue the run of a checkpoint."""
        run_id = state["run_id"]
        if not isinstance(run_id, str) or not re.fullmatch(r"[0-9a-f]{32}", run_id):
            # The id becomes part of a query of the tracker, and of file names.
            raise ValueError(f"{run_id!r} is not the name of a run")
        points = [Point(**point) for point in state["unsent"]]
        self._unsent = {point.number: point for point in points}
        self.run_id, self._number = run_id, int(state["points"])

    def open(self) -> None:
        """Begin or resume the tracker's run `run_id`; called again after a failure."""
        raise NotImplementedError

    def log(self, points: list[Point]) -> None:
        """Log points in their order, except for values that the tracker has; called again after a failure."""
        raise NotImplementedError

    def finish(self, end: RunEnd, outcome: dict[str, Any], files: list[Path]) -> None:
        """End the tracker's run.

        Args:
            end: the end of the run.
            outcome: the outcome of the run by name, without secrets.
            files: files and folders to copy.
        """
        raise NotImplementedError

    def flat_params(self) -> dict[str, str]:
        """Return the parameters of the run by dotted name, as text. Secrets are redacted."""
        found = flat(self.context.params, lists=True)
        return {name: recorded_text(value) for name, value in found.items()}

    def _outcome(self, end: RunEnd) -> tuple[dict[str, Any], list[Path]]:
        error = end.error and redacted(f"{type(end.error).__name__}: {end.error}")[:LONGEST]
        found = {"status": end.status, "best": end.best, "best_epoch": end.best_epoch, "error": error}
        copied = self.options.log_model and end.status in ("finished", "stopped")
        files = [self.context.output_dir / name for name in ("params.json", "export")] if copied else []
        return {k: v for k, v in found.items() if v is not None}, [path for path in files if path.exists()]

    def _begin(self) -> None:
        if self._opened or not self.context.is_chief:
            return
        self._opened = True
        self._background.submit(self.open)
        self._background.submit(self._send)

    def _add(self, axis: Literal["epoch", "step"], place: int, values: Mapping[str, float]) -> None:
        if not self.context.is_chief:
            return
        self._begin()
        self._number += 1
        self._unsent[self._number] = Point(self._number, axis, place, time.time(), values)
        steps = [each.number for each in list(self._unsent.values()) if each.axis == "step"]
        for number in steps[:-MOST_STEPS]:
            self._unsent.pop(number, None)
        self._background.submit(self._send)

    def _send(self) -> None:
        if points := list(self._unsent.values()):
            self.log(points)
        for point in points:
            self._unsent.pop(point.number, None)
