"""The monitored value: the best epoch so far, and early stopping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from aipcore.errors import ScenarioError
from aipcore.params.names import count
from aipcore.training.params import EarlyStoppingParams


@attrs.define
class Monitor:
    """The best value so far of one entry of the epoch logs.

    Attributes:
        mode: the better direction, "min" or "max".
        name: the value's name in the logs.
        best: the best value so far; None before the first.
        best_epoch: the epoch of the best value, counted from 1.
    """

    mode: Literal["min", "max"]
    name: str
    best: float | None = None
    best_epoch: int | None = None

    def update(self, epoch: int, logs: Mapping[str, float]) -> bool:
        """Record the logs of an epoch (counted from 1); return True if it is the best so far. NaN is never best."""
        value = logs.get(self.name)
        if value is None or math.isnan(value) or not self.is_better(value):
            return False
        self.best, self.best_epoch = float(value), epoch
        return True

    def is_better(self, value: float) -> bool:
        """Return True if `value` is strictly better than the best so far."""
        return self.best is None or self.beats(value, self.best)

    def beats(self, value: float, other: float) -> bool:
        """Return True if `value` is strictly better than `other`."""
        return value < other if self.mode == "min" else value > other

    def state(self) -> dict[str, Any]:
        """Return the state for `restore`."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        self.best, self.best_epoch = state["best"], state["best_epoch"]


def make_monitor(given: Any, scenario: str, names: list[str], *, validates: bool) -> Monitor:
    """Build the monitor that a scenario defines.

    Args:
        given: the scenario's `monitor`, such as `("max", "accuracy")`.
        scenario: the scenario's name in error messages.
        names: the names of all losses and metrics.
        validates: True if there is validation data; otherwise the training value is monitored.

    Raises:
        ScenarioError: the direction or the name is unknown.
    """
    mode, name = given if isinstance(given, tuple) and len(given) == 2 else (None, None)
    if mode not in ("min", "max") or not isinstance(name, str):
        raise ScenarioError(f'{scenario}.monitor is {given!r}. Set it to ("min", NAME) or ("max", NAME).')
    plain = name.removeprefix("val_")
    if plain not in names:
        raise ScenarioError(
            f"{scenario}.monitor is {name!r}, which is not a loss or a metric. Use one of {', '.join(names)}."
        )
    return Monitor(mode=mode, name=f"val_{plain}" if validates else plain)


def stop_reason(params: EarlyStoppingParams, monitor: Monitor, epoch: int, logs: Mapping[str, float]) -> str:
    """Return the reason to stop after this epoch; an empty string to continue.

    A value that is good enough stops the run in any epoch, whatever `frequency` is.

    The decision depends only on the monitor's state, which is in the checkpoint: a resumed run stops in the same epoch
    as an uninterrupted one.

    Args:
        params: the thresholds and the patience.
        monitor: the monitor, already updated with the epoch.
        epoch: counted from 1.
        logs: the logs of this epoch.
    """
    value = logs.get(monitor.name)
    if value is None:
        return ""
    least, enough = (
        (params.lower_threshold, params.upper_threshold)
        if monitor.mode == "max"
        else (params.upper_threshold, params.lower_threshold)
    )
    if enough is not None and _reaches(monitor, value, enough):
        return f"{monitor.name} {value:.4g} has reached {enough:g}"
    if params.n_to_go is None or epoch % params.frequency != 0:
        return ""
    if least is not None and (monitor.best is None or not _reaches(monitor, monitor.best, least)):
        return ""
    waited = epoch - (monitor.best_epoch or 0)
    if waited >= params.n_to_go:
        return f"{monitor.name} has not improved for {count(waited, 'epoch')}"
    return ""


def _reaches(monitor: Monitor, value: float, threshold: float) -> bool:
    return value >= threshold if monitor.mode == "max" else value <= threshold
