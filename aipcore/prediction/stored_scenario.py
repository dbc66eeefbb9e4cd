"""The scenario that stored answers belong to."""

from __future__ import annotations

from pathlib import Path

from aipcore.hooks.manager import PluginManager
from aipcore.params import from_dict
from aipcore.prediction.params import applied_params_class
from aipcore.prediction.stored import Stored
from aipcore.scenario.recorded import checked_record, recorded_scenario
from aipcore.scenario.scenario import Scenario


def scenario_of_stored(stored: Stored, path: Path, plugins: PluginManager, *, trust: bool) -> Scenario:
    """Makes the scenario with the parameters that the model was applied with.

    Raises:
        UsageError: the file does not name a scenario, or that is not installed or not trusted.
    """
    about = checked_record(stored.about, path)
    scenario = recorded_scenario(about, plugins, trust=trust, where=path)
    params = from_dict(applied_params_class(scenario.cls.params_class), about["params"], plugins, origin=str(path))
    return scenario.cls(params)
