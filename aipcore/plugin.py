"""All that the author of a plugin imports; nothing here is heavy."""

from aipcore.hooks.kinds import CallbackParams, ExporterParams, OptimizerParams, ScheduleParams
from aipcore.hooks.markers import API_VERSION, hookimpl
from aipcore.hooks.records import (
    CallbackRecord,
    CommandRecord,
    ExporterRecord,
    OptimizerRecord,
    ScenarioRecord,
    ScheduleRecord,
)
from aipcore.params import (
    REQUIRED,
    Check,
    above,
    at_least,
    between,
    component,
    components,
    field,
    fraction,
    group,
    params,
    regex,
)

__all__ = [
    "API_VERSION",
    "REQUIRED",
    "CallbackParams",
    "CallbackRecord",
    "Check",
    "CommandRecord",
    "ExporterParams",
    "ExporterRecord",
    "OptimizerParams",
    "OptimizerRecord",
    "ScenarioRecord",
    "ScheduleParams",
    "ScheduleRecord",
    "above",
    "at_least",
    "between",
    "component",
    "components",
    "field",
    "fraction",
    "group",
    "hookimpl",
    "params",
    "regex",
]
