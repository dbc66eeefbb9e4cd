"""Parameters of what applies a model: those of its scenario that still have an effect, and the device."""

from __future__ import annotations

import attrs

from aipcore.params import at_least, field, group, params
from aipcore.scenario.params import ScenarioParams

FIXED = ("model", "train")
"""The groups of a scenario that only training heeds."""

CHANGEABLE = ("model", "data")
"""The groups of a scenario whose parameters `aip export` can change."""


@params
class ApplyDeviceParams:
    """What computes."""

    gpus: tuple[int, ...] | None = field(
        None,
        help="Numbers of the GPUs to use, among those that CUDA_VISIBLE_DEVICES leaves; by default all of them.",
        check=at_least(0),
    )
    memory_growth: bool = field(True, help="Take GPU memory as it is needed instead of all at once.")
    memory_limit_mib: int | None = field(
        None,
        help="MiB of memory that TensorFlow reserves at once on each GPU, and never exceeds; needs memory_growth off.",
        check=at_least(1),
    )


def applied_params_class(scenario_params: type[ScenarioParams]) -> type[ScenarioParams]:
    """The parameters of a command that applies a model: those of the scenario, and the device."""
    return attrs.make_class(
        scenario_params.__name__,
        {"device": group(ApplyDeviceParams, help="What computes.")},
        bases=(scenario_params,),
        frozen=True,
        kw_only=True,
        slots=False,
    )
