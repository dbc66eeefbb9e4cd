"""What a callback plugin may know of the run it is part of."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import attrs

from aipcore.training.horizon import Horizon


@attrs.frozen(kw_only=True, eq=False)
class RunContext:
    """The run as callbacks see it.

    Attributes:
        output_dir: the run's folder; a callback writes only into it.
        scenario: the scenario's name.
        monitor: whether less ("min") or more ("max") is better, and the monitored value's name in the epoch logs.
        horizon: optimizer updates per epoch, and epochs.
        learning_rate: the schedule; its `scale` variable multiplies the rate from the next update on.
    """

    output_dir: Path
    scenario: str
    monitor: tuple[Literal["min", "max"], str]
    horizon: Horizon
    learning_rate: Any

    def improved(self, value: float, best: float | None) -> bool:
        """Whether `value` is better than `best` in the monitored direction; a NaN never is."""
        if value != value:  # noqa: PLR0124 - the one value that differs from itself is NaN
            return False
        if best is None:
            return True
        return value < best if self.monitor[0] == "min" else value > best
