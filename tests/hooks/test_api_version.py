"""The plugin API of each version: see docs/plugin-api-versions.md.

Additions need no change here. If a removal fails a test, keep the name for the deprecation period, or raise
`API_VERSION` and write a new list.
"""

from __future__ import annotations

import attrs
import pytest

import aipcore.plugin
from aipcore.hooks.discovery import HOOKS
from aipcore.hooks.records import API_VERSION, RECORD_TYPES

NAMES = """API_VERSION REQUIRED CallbackParams CallbackRecord Check Choice CommandRecord ExporterParams ExporterRecord
OptimizerParams OptimizerRecord ScenarioRecord ScheduleParams ScheduleRecord WriterRecord above at_least between
component components field fraction group hookimpl params regex"""

HOOKS_OF_VERSION_1 = {
    "aip_optimizers": "OptimizerRecord",
    "aip_schedules": "ScheduleRecord",
    "aip_scenarios": "ScenarioRecord",
    "aip_callbacks": "CallbackRecord",
    "aip_exporters": "ExporterRecord",
    "aip_writers": "WriterRecord",
    "aip_commands": "CommandRecord",
}

REQUIRED = "name summary build"

RECORDS = {
    "OptimizerRecord": (f"{REQUIRED} params", "docs"),
    "ScheduleRecord": (f"{REQUIRED} params", "docs"),
    "ScenarioRecord": (REQUIRED, "docs"),
    "CallbackRecord": (f"{REQUIRED} params", "docs"),
    "ExporterRecord": (f"{REQUIRED} params", "docs suffix load tolerance packages install"),
    "WriterRecord": (f"{REQUIRED} suffix", "docs targets packages install"),
    "CommandRecord": (REQUIRED, "docs"),
}
"""From each record to its required and its optional fields."""

PARAMS = {
    "OptimizerParams": "clip_value clip_norm clip_global_norm",
    "ScheduleParams": "lr offset_epochs",
    "CallbackParams": "",
    "ExporterParams": "",
}
"""From each base class of parameters to its fields. All have defaults, so a plugin need not know new ones."""


def test_this_is_the_list_of_the_current_version() -> None:
    """The lists here belong to the current version of the API."""
    assert API_VERSION == 1


def test_names_are_kept() -> None:
    """Every name that a plugin could import from `aipcore.plugin` is there."""
    assert set(NAMES.split()) <= set(aipcore.plugin.__all__)
    assert all(hasattr(aipcore.plugin, name) for name in NAMES.split())


def test_hooks_are_kept() -> None:
    """Every hook is still called, and returns the same record."""
    assert HOOKS_OF_VERSION_1.items() <= {name: record.__name__ for name, record in HOOKS.items()}.items()


@pytest.mark.parametrize("name", RECORDS)
def test_records_are_kept(name: str) -> None:
    """No field of a record is removed, and no further one is required."""
    [record] = [each for each in RECORD_TYPES if each.__name__ == name]
    fields = attrs.fields(record)
    required, optional = (set(words.split()) for words in RECORDS[name])
    assert {each.name for each in fields if each.default is attrs.NOTHING} == required
    assert optional <= {each.name for each in fields}


@pytest.mark.parametrize("name", PARAMS)
def test_parameters_are_kept(name: str) -> None:
    """No common parameter is removed, and all have defaults."""
    cls = getattr(aipcore.plugin, name)
    assert set(PARAMS[name].split()) <= set(attrs.asdict(cls()))
