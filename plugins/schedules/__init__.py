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
            summary="The same learning rate throughout.",
            params=f"{_PARAMS}:ConstantParams",
            build=f"{_BUILD}:constant",
        ),
        ScheduleRecord(
            name="ExponentialDecay",
            summary="Multiplied by a factor every n epochs, smoothly or in stairs.",
            params=f"{_PARAMS}:ExponentialDecayParams",
            build=f"{_BUILD}:exponential_decay",
        ),
        ScheduleRecord(
            name="CosineDecay",
            summary="Half a cosine from the full rate to a small one.",
            params=f"{_PARAMS}:CosineDecayParams",
            build=f"{_BUILD}:cosine_decay",
        ),
        ScheduleRecord(
            name="WarmupCosineDecay",
            summary="Rises linearly, then falls like CosineDecay.",
            params=f"{_PARAMS}:WarmupCosineDecayParams",
            build=f"{_BUILD}:warmup_cosine_decay",
        ),
        ScheduleRecord(
            name="WarmupConstantCosineDecay",
            summary="Rises linearly, stays, then falls like CosineDecay.",
            params=f"{_PARAMS}:WarmupConstantCosineDecayParams",
            build=f"{_BUILD}:warmup_constant_cosine_decay",
        ),
        ScheduleRecord(
            name="WarmupDecay",
            summary="Rises linearly, then falls with the inverse square root of the step.",
            params=f"{_PARAMS}:WarmupDecayParams",
            build=f"{_BUILD}:warmup_decay",
        ),
    ]
