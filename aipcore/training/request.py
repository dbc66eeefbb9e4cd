"""The request for a run: a scenario and the layers of its parameters. Imports no TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from aipcore.errors import ParamsError, ScenarioError
from aipcore.hooks.manager import PluginManager, get_plugin_manager
from aipcore.params import Layer, Resolved, resolve, to_dict
from aipcore.params.dump import flat
from aipcore.params.files import COMMAND_LINE
from aipcore.params.resources import check_resources
from aipcore.params.secret import contacts
from aipcore.scenario.author_names import check_scenario
from aipcore.scenario.loader import LoadedScenario, load_scenario, loaded_class
from aipcore.scenario.params import ScenarioParams
from aipcore.scenario.record import used_files
from aipcore.scenario.scenario import Scenario
from aipcore.scenario.updates import updates_of
from aipcore.training.artifacts import WEIGHTS, find_artifact, fold_folders, recorded_params
from aipcore.training.export.requirements import require_packages
from aipcore.training.params import run_params_class
from aipcore.training.run_folder import resume_command
from aipcore.training.update_params import check_several_updates

AnyScenario = str | os.PathLike[str] | type[Scenario]
"""A name, a file, `module:Class`, or the class itself."""


@attrs.frozen(kw_only=True)
class Request:
    """A scenario and the layers of its parameters, lowest precedence first.

    Attributes:
        is_recorded: True if the layers are those of a run, which were adapted to the source of its warm start.
    """

    scenario: LoadedScenario
    root: type[ScenarioParams]
    layers: list[Layer]
    plugins: PluginManager
    is_recorded: bool = False

    def resolved(self) -> Resolved[Any]:
        """Return the parameters, complete and checked."""
        return resolve(self.root, self.layers, self.plugins)

    def checked(self) -> Resolved[Any]:
        """Return the parameters after the scenario has checked them and completed them from its data.

        Raises:
            AipError: the scenario or a callback rejects a parameter.
        """
        resolved = self.resolved()
        _refuse_without_effect(resolved)
        check_several_updates(self.root, resolved, self.plugins, self.scenario.cls.__name__)
        check_resources(resolved.value)
        require_packages(resolved.value.trainer.export.formats, self.plugins, "--export.formats")
        for callback in resolved.value.trainer.callbacks:
            callback.params.check()
        scenario = self.scenario.cls(resolved.value)
        scenario.check()
        source = resolved.value.trainer.warmstart.model
        if source is not None and not self.is_recorded:
            if resolved.value.trainer.folds is not None:
                # The models of a cross-validation have the same parameters.
                source = next(iter(fold_folders(source)), source)
            scenario = self.scenario.cls(scenario.adapt_params(recorded_params(find_artifact(source, WEIGHTS))))
        return attrs.evolve(resolved, value=scenario.derived_params())

    def resume_command(self, resolved: Resolved[Any], folder: Path) -> str:
        """Return the command that resumes a run of this request.

        Args:
            resolved: the parameters of the run.
            folder: the run folder.
        """
        if self.scenario.kind == "class":
            return f"aipcore.resume({str(folder)!r}, scenario={self.scenario.cls.__name__})"
        named = contacts(resolved.tree, tuple(resolved.origins.values()))
        files = used_files(self.scenario, resolved.tree, self.plugins)
        return resume_command(folder, trust=bool(named or files) or self.scenario.kind != "plugin")


PYTHON = "params"
"""The origin of parameters that Python code passes."""

NEEDED = {
    "trainer.folds_by": "trainer.folds",
    "trainer.fold_processes": "trainer.folds",
    "trainer.early_stopping.min_delta": "trainer.early_stopping.n_to_go",
}
"""Parameters that have no effect while another one is none."""


def _refuse_without_effect(resolved: Resolved[Any]) -> None:
    """Refuse options that have no effect. Defaults of a scenario, and files, may contain them.

    Raises:
        ParamsError: there is one.
    """
    values = flat(to_dict(resolved.value))
    for name, needed in NEEDED.items():
        if resolved.origins.get(name) in (COMMAND_LINE, PYTHON) and values[needed] is None:
            option, other = (each.replace("trainer.early", "early") for each in (name, needed))
            raise ParamsError(f"--{option} has no effect without --{other}. Give both, or leave it out.")


def make_request(scenario: LoadedScenario, layers: list[Layer], plugins: PluginManager) -> Request:
    """Return the request of a loaded scenario. The scenario's defaults come before `layers`.

    Raises:
        ScenarioError: the scenario cannot be trained.
        PluginError: a hook in the scenario's file is broken.
    """
    check_scenario(scenario.cls)
    plugins = scenario.plugins(plugins)
    defaults = Layer.of_scenario(scenario.name, scenario.cls.defaults, f"{scenario.cls.__name__}.defaults")
    root = run_params_class(scenario.cls.params_class, updates_of(scenario.cls))
    return Request(scenario=scenario, root=root, layers=[defaults, *layers], plugins=plugins)


def load_any(scenario: AnyScenario, plugins: PluginManager) -> LoadedScenario:
    """Load a scenario given in any form of `AnyScenario`.

    Raises:
        ScenarioError: there is no such scenario.
    """
    if isinstance(scenario, type):
        records = {record.build: record.name for record in plugins.records("scenario")}
        return loaded_class(scenario, records)
    if not isinstance(scenario, str | os.PathLike):
        raise ScenarioError(
            f"{scenario!r} is not a scenario. Pass a name, a file, module:Class, or a class that extends "
            "aipcore.scenario.Scenario."
        )
    return load_scenario(os.fspath(scenario), names=list(plugins.names("scenario")), find=plugins.find_scenario)


def params_layer(params: Mapping[str, Any] | None) -> Layer:
    """Return the layer of parameters given by a program, with nested or dotted names.

    Paths and NumPy numbers are converted to the types used in parameter files.

    Raises:
        ParamsError: `params` is not a mapping.
    """
    if params is not None and not isinstance(params, Mapping):
        raise ParamsError(
            f"params is {type(params).__name__}, not a mapping. Pass a mapping such as {{'trainer.epochs': 5}}."
        )
    return Layer.from_mapping(PYTHON, {} if params is None else _plain(params))


def request_of(
    scenario: AnyScenario, params: Mapping[str, Any] | None, output_dir: str | os.PathLike[str] | None
) -> Request:
    """Return the request for arguments given by a program.

    Args:
        scenario: see `AnyScenario`.
        params: parameters by nested or dotted names.
        output_dir: `trainer.output_dir`, if not among `params`.

    Raises:
        AipError: there is no such scenario.
    """
    plugins = get_plugin_manager()
    layers = [params_layer(params)]
    if output_dir is not None:
        layers.append(Layer.from_mapping("output_dir", {"trainer.output_dir": os.fspath(output_dir)}))
    return make_request(load_any(scenario, plugins), layers, plugins)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    # NumPy numbers, without importing NumPy.
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0 else value
