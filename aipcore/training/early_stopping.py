"""Early stopping: the monitored value has stopped improving, or is good enough."""

from __future__ import annotations

from collections.abc import Mapping

from aipcore.params.names import count
from aipcore.training.monitor import Monitor
from aipcore.training.params import EarlyStoppingParams


def stop_reason(params: EarlyStoppingParams, monitor: Monitor, epoch: int, logs: Mapping[str, float]) -> str:
    """Return why to stop after this epoch; empty to continue.

    A value that is good enough stops the run in any epoch, whatever `frequency` is.

    It depends on nothing but the monitor's state, which is in the checkpoint: a resumed run stops where the
    uninterrupted one does.

    Args:
        params: the thresholds and the patience.
        monitor: after it has taken in the epoch.
        epoch: counted from 1.
        logs: of this epoch.
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
