"""Parameters for applying a model: the scenario's parameters that still have an effect, and the device."""

from __future__ import annotations

import attrs

from aipcore.distributed.params import GpuParams
from aipcore.params import group
from aipcore.scenario.params import ScenarioParams

FIXED = ("model", "train")
"""The groups of a scenario that only affect training."""

CHANGEABLE = ("model", "data")
"""The groups of a scenario that `aip export` can change."""


def applied_params_class(scenario_params: type[ScenarioParams]) -> type[ScenarioParams]:
    """Return the parameter class for applying a model: the scenario's parameters and the device."""
    return attrs.make_class(
        scenario_params.__name__,
        {"device": group(GpuParams, help="Devices to run on.")},
        bases=(scenario_params,),
        frozen=True,
        kw_only=True,
        slots=False,
    )
