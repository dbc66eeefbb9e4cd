"""The monitored value: the best epoch so far, and early stopping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from aipcore.errors import ScenarioError
from aipcore.params.names import count
from aipcore.training.params import EarlyStoppingParams

STATE = ("best", "best_epoch", "best_step", "checks", "best_check")
"""The attributes of a monitor that change during a run."""


@attrs.define
class Monitor:
    """The best value so far of one entry of the epoch logs.

    Attributes:
        mode: the better direction, "min" or "max".
        name: the value's name in the logs.
        best: the best value so far; None before the first.
        best_epoch: the epoch of the best value, counted from 1.
        best_step: the optimizer updates before the best value.
        checks: the number of values so far.
        best_check: the number of the best value, counted from 1.
    """

    mode: Literal["min", "max"]
    name: str
    best: float | None = None
    best_epoch: int | None = None
    best_step: int | None = None
    checks: int = 0
    best_check: int = 0

    def update(self, epoch: int, logs: Mapping[str, float], step: int | None = None) -> bool:
        """Record values; return True if the monitored one is the best so far. NaN is never best.

        Args:
            epoch: the epoch, counted from 1.
            logs: the values, at the end of the epoch or within it.
            step: completed optimizer updates.
        """
        value = logs.get(self.name)
        if value is None:
            return False
        self.checks += 1
        # A loss that is not finite means weights that are not. They can still score well by chance.
        if math.isnan(value) or not math.isfinite(logs.get("loss", 0.0)) or not self.is_better(value):
            return False
        self.best, self.best_epoch, self.best_step, self.best_check = float(value), epoch, step, self.checks
        return True

    def is_better(self, value: float) -> bool:
        """Return True if `value` is strictly better than the best so far."""
        return self.best is None or self.beats(value, self.best)

    def beats(self, value: float, other: float) -> bool:
        """Return True if `value` is strictly better than `other`."""
        return value < other if self.mode == "min" else value > other

    def state(self) -> dict[str, Any]:
        """Return the state for `restore`."""
        return {name: getattr(self, name) for name in STATE}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        for name in STATE:
            # Earlier checkpoints have only the value and its epoch.
            setattr(self, name, state[name] if name in ("best", "best_epoch") else state.get(name, getattr(self, name)))


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


def stop_reason(
    params: EarlyStoppingParams, monitor: Monitor, epoch: int, logs: Mapping[str, float], *, by_validation: bool = False
) -> str:
    """Return the reason to stop after this epoch; an empty string to continue.

    A value that is good enough stops the run in any epoch, whatever `frequency` is.

    The decision depends only on the monitor's state, which is in the checkpoint: a resumed run stops in the same epoch
    as an uninterrupted one.

    Args:
        params: the thresholds and the patience.
        monitor: the monitor, already updated with the epoch.
        epoch: counted from 1.
        logs: the logs of this epoch.
        by_validation: if True, the patience counts monitored values instead of epochs.
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
    number, best = (monitor.checks, monitor.best_check) if by_validation else (epoch, monitor.best_epoch or 0)
    if params.n_to_go is None or number % params.frequency != 0:
        return ""
    if least is not None and (monitor.best is None or not _reaches(monitor, monitor.best, least)):
        return ""
    waited = number - best
    if waited >= params.n_to_go:
        return f"{monitor.name} has not improved for {count(waited, 'validation' if by_validation else 'epoch')}"
    return ""


def _reaches(monitor: Monitor, value: float, threshold: float) -> bool:
    return value >= threshold if monitor.mode == "max" else value <= threshold
