"""Built-in learning-rate schedules."""

from __future__ import annotations

from aipcore.plugin import ScheduleRecord, hookimpl

_PARAMS = "aip_plugins.schedules.params"
_BUILD = "aip_plugins.schedules.build"


@hookimpl
def aip_schedules() -> list[ScheduleRecord]:
    """Return the schedules of this package."""
    return [
        ScheduleRecord(
            name="Constant",
            summary="Constant learning rate.",
            params=f"{_PARAMS}:ConstantParams",
            build=f"{_BUILD}:constant",
        ),
        ScheduleRecord(
            name="ExponentialDecay",
            summary="Exponential decay, continuous or in steps.",
            params=f"{_PARAMS}:ExponentialDecayParams",
            build=f"{_BUILD}:exponential_decay",
        ),
        ScheduleRecord(
            name="CosineDecay",
            summary="Cosine decay from the full rate to a fraction of it.",
            params=f"{_PARAMS}:CosineDecayParams",
            build=f"{_BUILD}:cosine_decay",
        ),
        ScheduleRecord(
            name="WarmupCosineDecay",
            summary="Linear warmup, then cosine decay.",
            params=f"{_PARAMS}:WarmupCosineDecayParams",
            build=f"{_BUILD}:warmup_cosine_decay",
        ),
        ScheduleRecord(
            name="WarmupConstantCosineDecay",
            summary="Linear warmup, a constant phase, then cosine decay.",
            params=f"{_PARAMS}:WarmupConstantCosineDecayParams",
            build=f"{_BUILD}:warmup_constant_cosine_decay",
        ),
        ScheduleRecord(
            name="WarmupDecay",
            summary="Linear warmup, then decay with the inverse square root of the step.",
            params=f"{_PARAMS}:WarmupDecayParams",
            build=f"{_BUILD}:warmup_decay",
        ),
    ]
