"""Models on disk: `best`, `export`, a run folder or a checkpoint, located without loading them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from aipcore.errors import UsageError
from aipcore.files import refuse_links
from aipcore.hooks.manager import PluginManager
from aipcore.params import Layer, Resolved, fill, resolve, to_dict
from aipcore.params.dump import flat
from aipcore.params.resources import localized, places, places_layer, refuse_foreign_resources
from aipcore.params.secret import contacts, refuse_contacts
from aipcore.prediction.params import applied_params_class
from aipcore.scenario.list_file import ListFileScenario
from aipcore.scenario.loader import LoadedScenario
from aipcore.scenario.record import (
    ABOUT_FILE,
    ALWAYS_WRITTEN,
    MODEL_FORMAT,
    read_checkpoint_record,
    read_record,
    recorded_plugins,
    recorded_scenario,
    recorded_working_dir,
)
from aipcore.scenario.scenario import Scenario
from aipcore.training.artifacts import MODELS, SAVED_MODEL, find_artifact, fold_folders
from aipcore.training.request import load_any

logger = logging.getLogger("aipcore.prediction")

RECORDED = "the model"
"""The name of the layer of recorded parameters."""


@attrs.frozen(kw_only=True)
class ModelDir:
    """A model on disk.

    Attributes:
        path: path of the SavedModel or checkpoint.
        kind: kind of the model.
        about: recorded metadata.
        home: folder that contains its resources.
    """

    path: Path
    kind: Literal["model", "checkpoint"]
    about: Mapping[str, Any] = attrs.field(eq=False, repr=False)
    home: Path

    @property
    def seed(self) -> int:
        """Return the seed of the run, which random processors depend on."""
        seed = self.about.get("seed", 0)
        return seed if isinstance(seed, int) else 0


def find_model(path: Path) -> ModelDir:
    """Find a model and read its record; see `find_artifact`.

    Args:
        path: path of a model (`best`, `export`), a run folder, its `checkpoint` folder or one checkpoint.

    Raises:
        UsageError: the path is none of these, is damaged, or was written by a newer aip.
    """
    found = find_artifact(path, MODELS)
    for warning in found.warnings:
        logger.warning(warning)
    return _model(found.path) if found.kind == "model" else _checkpoint(found.path)


def find_models(path: Path) -> list[ModelDir]:
    """Find the model at a path; see `find_model`. The folder of a cross-validation has one for each fold.

    Raises:
        UsageError: see `find_model`; or a fold has no model.
    """
    return [find_model(each) for each in fold_folders(path) or [path]]


def scenario_of(
    model: ModelDir, plugins: PluginManager, *, trust: bool, given: type[Scenario] | None = None
) -> tuple[LoadedScenario, PluginManager]:
    """Return the scenario that a model was trained with, and the plugins with those of its files.

    Args:
        model: model to apply.
        plugins: the available plugins.
        trust: if True, run the code of files that the model's record names.
        given: scenario to use in place of the recorded one.

    Raises:
        UsageError: see `recorded_plugins` and `recorded_scenario`.
    """
    replaced = [] if given is None else ["scenario"]
    plugins = recorded_plugins(model.about, plugins, trust=trust, where=model.path, applied=True, replaced=replaced)
    if given is None:
        scenario = recorded_scenario(model.about, plugins, trust=trust, where=model.path)
    else:
        scenario = load_any(given, plugins)
    return scenario, scenario.plugins(plugins)


def recorded_layer(model: ModelDir) -> Layer:
    """Return the parameters that a model was trained with, with the current paths of its resources.

    Raises:
        UsageError: a resource is missing or in the wrong place.
    """
    recorded = {name: value for name, value in model.about["params"].items() if name not in ("trainer", "device")}
    return Layer.from_mapping(RECORDED, localized(recorded, model.about.get("resources", {}), model.home))


def resolved_params(
    model: ModelDir,
    scenario: LoadedScenario,
    plugins: PluginManager,
    overrides: Layer | None = None,
    *,
    trust: bool = False,
    tell: Callable[[str], object] = logger.info,
) -> Resolved[Any]:
    """Return the parameters to apply a model with.

    A relative path refers to the working folder, or if nothing is there, to the folder in which the run was started.

    Args:
        model: model to apply.
        scenario: scenario of the model.
        plugins: installed plugins.
        overrides: parameters from the user.
        trust: if True, addresses in the record may be contacted.
        tell: receiver of messages about paths in another folder; by default a log.

    Raises:
        UsageError: a parameter is not allowed or names an untrusted address, or the record does not fit the installed
            scenario.
    """
    root = applied_params_class(scenario.cls.params_class)
    layer = recorded_layer(model)
    if model.kind == "model":
        refuse_foreign_resources(fill(root, [layer], plugins), model.path)
    given = [] if overrides is None else [overrides]
    found = places(fill(root, [layer, *given], plugins), recorded_working_dir(model.about), (layer.name,))
    for sentence in (sentence for place in found for sentence in place.sentences):
        tell(sentence)
    recorded = [layer, places_layer(layer.name, found)]
    resolved = resolve(root, [*recorded, *given], plugins)
    if given and scenario.cls.fixed:
        before, after = (flat(to_dict(each)) for each in (fill(root, recorded, plugins), resolved.value))
        for path in scenario.cls.fixed:
            if before.get(path) != after.get(path):
                raise UsageError(f"--{path} belongs to the trained model, which has another one. Leave it out.")
    if not trust:
        refuse_contacts(contacts(resolved.tree, (layer.name,)), model.path)
    return resolved


def given_params(resolved: Resolved[Any], cls: type[Scenario], command: str) -> frozenset[str]:
    """Return the names of the parameters that the user has changed.

    Args:
        resolved: result of `resolved_params`.
        cls: scenario class.
        command: `predict` or `lav`.

    Raises:
        UsageError: a changed parameter has no effect on the data of the command.
    """
    given = frozenset(name for name, origin in resolved.origins.items() if origin not in (RECORDED, "default"))
    if issubclass(cls, ListFileScenario):
        if command == "lav" and "data.files" in given:
            raise UsageError("--data.files has no effect in aip lav, which needs targets. Use --val.lists.")
        if command == "lav" and "val.lists" in given and resolved.value.lav.lists:
            raise UsageError("--val.lists has no effect in aip lav with --lav.lists. Use --lav.lists.")
        if command == "predict" and "val.lists" in given and resolved.value.data.files:
            raise UsageError("--val.lists has no effect in aip predict with --data.files. Leave out one of them.")
    return given


def _model(path: Path) -> ModelDir:
    about = read_record(path / ABOUT_FILE)
    version = about.get("format")
    if not isinstance(version, int):
        raise UsageError(f"{path / ABOUT_FILE} has no format number. It is damaged, or aip did not write it.")
    if version > MODEL_FORMAT:
        raise UsageError(
            f"The model {path} has format {version}, but this version of aip reads formats up to {MODEL_FORMAT}. "
            "Upgrade aipcore."
        )
    if not isinstance(about.get("signature"), dict):
        raise UsageError(
            f"{path / ABOUT_FILE} does not name the model's inputs and outputs. It is damaged. Use another copy."
        )
    formats = about.get("formats")
    if isinstance(formats, list) and ALWAYS_WRITTEN not in formats:
        raise UsageError(
            f"The model {path} contains only {', '.join(map(str, formats))}, which aip does not apply. Use the model "
            "that it was exported from: best, export or checkpoint of a run."
        )
    if "graph" in about:
        raise UsageError(
            f"The model {path} contains only the export graph {about['graph']}, which aip does not apply. Use the "
            "model that it was exported from: best, export or checkpoint of a run."
        )
    refuse_links(path, reading=True)
    for name in (SAVED_MODEL, "variables"):
        if not (path / name).exists():
            raise UsageError(f"The model {path} is damaged or not a SavedModel: {name} is missing. Use another copy.")
    return ModelDir(path=path, kind="model", about=about, home=path)


def _checkpoint(path: Path) -> ModelDir:
    about = read_checkpoint_record(path)
    if not isinstance(about.get("signature"), dict):
        raise UsageError(
            f"The checkpoint {path} does not name the model's inputs and outputs. It is damaged. Use another one."
        )
    return ModelDir(path=path, kind="checkpoint", about=about, home=path.absolute().parent.parent)
