"""Shipped scenarios."""

from __future__ import annotations

from aipcore.plugin import ScenarioRecord, hookimpl


@hookimpl
def aip_scenarios() -> list[ScenarioRecord]:
    """The scenarios of this package."""
    return [
        ScenarioRecord(
            name="tutorial",
            summary="Handwritten digits, classified by a small network; the data comes with aip.",
            build="aip_plugins.scenarios.tutorial.scenario:Tutorial",
        )
    ]
