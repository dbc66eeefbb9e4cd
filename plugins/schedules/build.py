"""Construction of schedules from their parameters and the horizon of a run."""

from __future__ import annotations

from aip_plugins.schedules.params import (
    ConstantParams,
    CosineDecayParams,
    ExponentialDecayParams,
    WarmupConstantCosineDecayParams,
    WarmupCosineDecayParams,
    WarmupDecayParams,
)
from aip_plugins.schedules.phases import PhasedSchedule

from aipcore.training.engine.learning_rate import Horizon

SHORTEST = 1e-9
"""Epochs. A decay without remaining time is a single step down."""


def constant(params: ConstantParams, horizon: Horizon) -> PhasedSchedule:
    """See `ConstantParams`."""
    return PhasedSchedule(params.lr, horizon.updates_per_epoch)


def exponential_decay(params: ExponentialDecayParams, horizon: Horizon) -> PhasedSchedule:
    """See `ExponentialDecayParams`."""
    return PhasedSchedule(
        params.lr,
        horizon.updates_per_epoch,
        fall="exponential",
        constant=params.constant_epochs,
        decay=params.decay,
        length=params.decay_epochs,
        min_fraction=params.min_fraction,
        staircase=params.staircase,
    )


def cosine_decay(params: CosineDecayParams, horizon: Horizon) -> PhasedSchedule:
    """See `CosineDecayParams`."""
    return _cosine(params, horizon)


def warmup_cosine_decay(params: WarmupCosineDecayParams, horizon: Horizon) -> PhasedSchedule:
    """See `WarmupCosineDecayParams`."""
    return _cosine(params, horizon, warmup=params.warmup_epochs, warmup_fraction=params.warmup_fraction)


def warmup_constant_cosine_decay(params: WarmupConstantCosineDecayParams, horizon: Horizon) -> PhasedSchedule:
    """See `WarmupConstantCosineDecayParams`."""
    return _cosine(
        params,
        horizon,
        warmup=params.warmup_epochs,
        warmup_fraction=params.warmup_fraction,
        constant=params.constant_epochs,
    )


def warmup_decay(params: WarmupDecayParams, horizon: Horizon) -> PhasedSchedule:
    """See `WarmupDecayParams`."""
    return PhasedSchedule(
        params.lr,
        horizon.updates_per_epoch,
        fall="inverse_sqrt",
        warmup=params.warmup_epochs,
        warmup_fraction=params.warmup_fraction,
    )


def _cosine(
    params: CosineDecayParams,
    horizon: Horizon,
    *,
    warmup: float = 0.0,
    warmup_fraction: float = 0.0,
    constant: float = 0.0,
) -> PhasedSchedule:
    left = horizon.length - warmup - constant
    return PhasedSchedule(
        params.lr,
        horizon.updates_per_epoch,
        fall="cosine",
        warmup=warmup,
        warmup_fraction=warmup_fraction,
        constant=constant,
        min_fraction=params.min_fraction,
        length=max(left if params.decay_epochs is None else params.decay_epochs, SHORTEST),
    )
