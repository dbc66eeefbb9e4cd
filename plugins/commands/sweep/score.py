"""What a trial is worth: the best of its epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

Logs = Mapping[str, float]


class Score:
    """Finds the best epoch of a trial.

    Attributes:
        mode: whether small (`min`) or large (`max`) values are good.
        name: the value's name among the logs of an epoch.
        own: whether the name is that of the scenario, which stands for the value of the validation if there is one.
        value: the best so far, None if there is none.
        epoch: the epoch that gave it, counted from 1.
        logs: all values of that epoch that are numbers.
    """

    def __init__(self, mode: Literal["min", "max"], name: str, *, own: bool = False) -> None:
        self.mode = mode
        self.name = name
        self.own = own
        self.value: float | None = None
        self.epoch: int | None = None
        self.logs: dict[str, float] = {}

    def take(self, history: Sequence[Logs]) -> None:
        """Looks at all epochs of the trial, from the first; weights that are no numbers are worth nothing."""
        validated = f"val_{self.name.removeprefix('val_')}"
        if self.own and any(validated in logs for logs in history):
            self.name = validated
        for epoch, logs in enumerate(history, 1):
            value = logs.get(self.name)
            if value is None or not math.isfinite(value) or not math.isfinite(logs.get("loss", 0.0)):
                continue
            if self.value is None or (value < self.value if self.mode == "min" else value > self.value):
                self.value, self.epoch = value, epoch
                self.logs = {name: each for name, each in logs.items() if math.isfinite(each)}

    def diverged(self, epoch: int, logs: Logs) -> str:
        """Why nothing can come of the trial any more; empty if something can."""
        loss = logs.get("loss", 0.0)
        return "" if math.isfinite(loss) else f"the loss is {loss} in epoch {epoch}"

    def unknown(self, history: Sequence[Logs], *, final: bool) -> str:
        """Why the monitored value will never be there; empty if it is, or may still come.

        Args:
            history: the logs of some epochs.
            final: whether these are all.
        """
        names = {name for logs in history for name in logs}
        # Validation and its extension may run in some of the epochs only.
        late = self.name.startswith(("val_", "lav_")) and not any(name.startswith(self.name[:4]) for name in names)
        if not names or self.name in names or (late and not final):
            return ""
        return f"There is no {self.name} to optimize, only {', '.join(sorted(names))}: give another --monitor."
