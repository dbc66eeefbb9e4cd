"""The monitored value: the best epoch so far, and early stopping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import attrs

from aipcore.errors import ParamsError, ScenarioError
from aipcore.params.names import count, nearest, one_of
from aipcore.training.params import EarlyStoppingParams

if TYPE_CHECKING:
    from aipcore.scenario.metrics import MetricSet

STATE = ("best", "best_epoch", "best_step", "checks", "reference", "reference_epoch", "reference_check")
"""The attributes of a monitor that change during a run."""


@attrs.define
class Monitor:
    """The best value so far of one entry of the epoch logs.

    Attributes:
        mode: the better direction, "min" or "max".
        name: the value's name in the logs.
        min_delta: change above which a value is an improvement for early stopping, as in Keras' `EarlyStopping`.
        best: the best value so far; None before the first.
        best_epoch: the epoch of the best value, counted from 1.
        best_step: the optimizer updates before the best value.
        checks: the number of values so far.
        reference: the last value that was an improvement for early stopping.
        reference_epoch: its epoch, counted from 1.
        reference_check: its number among the values, counted from 1.
    """

    mode: Literal["min", "max"]
    name: str
    min_delta: float = 0.0
    best: float | None = None
    best_epoch: int | None = None
    best_step: int | None = None
    checks: int = 0
    reference: float | None = None
    reference_epoch: int | None = None
    reference_check: int = 0

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
        if math.isnan(value) or not math.isfinite(logs.get("loss", 0.0)):
            return False
        if self.reference is None or self.beats(value, self.reference, self.min_delta):
            self.reference, self.reference_epoch, self.reference_check = float(value), epoch, self.checks
        if not self.is_better(value):
            return False
        self.best, self.best_epoch, self.best_step = float(value), epoch, step
        return True

    def is_better(self, value: float) -> bool:
        """Return True if `value` is strictly better than the best so far."""
        return self.best is None or self.beats(value, self.best)

    def beats(self, value: float, other: float, delta: float = 0.0) -> bool:
        """Return True if `value` is better than `other` by more than `delta`."""
        return value + delta < other if self.mode == "min" else value - delta > other

    def state(self) -> dict[str, Any]:
        """Return the state for `restore`."""
        return {name: getattr(self, name) for name in ("mode", "name", *STATE)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state. That of another monitored value is discarded, so that the next value is the best."""
        if (state.get("mode", self.mode), state.get("name", self.name)) != (self.mode, self.name):
            state = {"best": None, "best_epoch": None}
        # Checkpoints of earlier versions have only the best value and its epoch: every best value was an improvement.
        before = {"reference": state["best"], "reference_epoch": state["best_epoch"]}
        for name in STATE:
            setattr(self, name, state.get(name, before.get(name, getattr(self, name))))


def chosen_monitor(option: str | None, own: Any) -> Any:
    """Return the direction and the name of `--trainer.monitor`, or the scenario's own `monitor` without the option."""
    return own if option is None else tuple(option.split(":", 1))


def known_directions(metrics: MetricSet) -> dict[str, str]:
    """Return the better direction, "min" or "max", of losses and of those metrics for which Keras defines it."""
    losses = [] if metrics.losses is None else list(metrics.losses.result())
    found = {name: getattr(metric, "_direction", None) for name, metric in metrics.by_name.items()}
    modes = {"up": "max", "down": "min"}
    return dict.fromkeys(losses, "min") | {name: modes[way] for name, way in found.items() if way in modes}


def make_monitor(
    given: Any,
    scenario: str,
    names: list[str],
    *,
    validates: bool,
    option: str | None = None,
    directions: Mapping[str, str] = MappingProxyType({}),
    min_delta: float = 0.0,
) -> Monitor:
    """Build the monitor of a run.

    Args:
        given: the scenario's `monitor`, such as `("max", "accuracy")`.
        scenario: the scenario's name in error messages.
        names: the names of all losses and metrics.
        validates: True if there is validation data; otherwise the training value is monitored.
        option: the value of `trainer.monitor`, such as `max:accuracy`, which precedes the scenario's.
        directions: the better direction of values for which it is known.
        min_delta: see `Monitor`.

    Raises:
        ScenarioError: the direction or the name of the scenario's `monitor` is unknown.
        ParamsError: the name in the option is unknown, or its direction contradicts the known one.
    """
    mode, name = given if isinstance(given, tuple) and len(given) == 2 else (None, None)
    if mode not in ("min", "max") or not isinstance(name, str):
        raise ScenarioError(f'{scenario}.monitor is {given!r}. Set it to ("min", NAME) or ("max", NAME).')
    plain = name.removeprefix("val_")
    if option is not None:
        own = {plain: mode}
        mode, name = chosen_monitor(option, given)
        plain = name.removeprefix("val_")
        if plain not in names:
            near = nearest(plain, names)
            hint = f"Did you mean {one_of(near)}?" if near else f"Use one of {', '.join(names)}."
            raise ParamsError(f"--trainer.monitor {option}: {name} is not a loss or a metric. {hint}")
        known = own.get(plain, directions.get(plain))
        if known not in (None, mode):
            source = f"{scenario}.monitor" if plain in own else "Keras"
            is_loss = plain not in own and plain.endswith("loss")
            better = f"{'higher' if known == 'max' else 'lower'} values of {plain} are better"
            why = "for a loss" if is_loss else f"according to {source}"
            raise ParamsError(f"--trainer.monitor {option} is not possible: {better} {why}. Write {known}:{plain}.")
    elif plain not in names:
        raise ScenarioError(
            f"{scenario}.monitor is {name!r}, which is not a loss or a metric. Use one of {', '.join(names)}."
        )
    return Monitor(mode=mode, name=f"val_{plain}" if validates else plain, min_delta=min_delta)


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
    number, reference = epoch, monitor.reference_epoch or 0
    if by_validation:
        number, reference = monitor.checks, monitor.reference_check
    if params.n_to_go is None or number % params.frequency != 0:
        return ""
    if least is not None and (monitor.best is None or not _reaches(monitor, monitor.best, least)):
        return ""
    waited = number - reference
    if waited >= params.n_to_go:
        more = f" by more than {monitor.min_delta:g}" if monitor.min_delta else ""
        unit = "validation" if by_validation else "epoch"
        return f"{monitor.name} has not improved{more} for {count(waited, unit)}"
    return ""


def _reaches(monitor: Monitor, value: float, threshold: float) -> bool:
    return value >= threshold if monitor.mode == "max" else value <= threshold
