"""What the folder of a run says of itself: its scenario and its parameters, with changes. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from aipcore.errors import PluginError
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Layer, fill
from aipcore.params.places import places, places_layer
from aipcore.params.resources import localized
from aipcore.scenario.loader import LoadedScenario
from aipcore.scenario.recorded import moved_scenario, recorded_scenario, recorded_working_dir
from aipcore.training.params import run_params_class
from aipcore.training.request import AnyScenario, Request, load_any
from aipcore.training.run_components import compare_plugins, missing_component
from aipcore.training.run_folder import RunFolder, find_run

PLACES = {
    "optimizer": ("trainer", "optimizer"),
    "schedule": ("trainer", "learning_rate"),
    "callback": ("trainer", "callbacks"),
    "exporter": ("trainer", "export", "formats"),
}
"""Where the parameters name a plugin of each kind."""


@attrs.frozen(kw_only=True)
class StoredRun:
    """A run that is to be resumed.

    Attributes:
        folder: where it lies.
        request: its scenario and the layers of its parameters, changes included.
        recorded: the layers without the changes.
        trust: whether what the folder names may be contacted.
        warnings: what the user should know, in sentences.
    """

    folder: RunFolder
    request: Request
    recorded: list[Layer]
    trust: bool
    warnings: list[str]


def find_stored_run(
    given: Path, changed: Sequence[Layer], *, trust: bool, scenario: AnyScenario | None = None
) -> StoredRun:
    """Read what a run's folder says of itself, without running any of it unless it is trusted.

    Args:
        given: see `resume`.
        changed: the layers of parameters that change.
        trust: see `resume`.
        scenario: see `resume`.

    Raises:
        AipError: see `resume`.
    """
    folder, plugins = find_run(given), get_plugin_manager()
    warnings, missing = compare_plugins(folder.about, plugins)
    if scenario is not None:
        loaded = load_any(scenario, plugins)
    else:
        loaded = recorded_scenario(folder.about, plugins, trust=trust, where=folder.path)
        warnings.extend([moved] if (moved := moved_scenario(folder.about, loaded)) else [])
    root = run_params_class(loaded.cls.params_class)
    recorded = _recorded_layers(folder, loaded, missing, changed)
    origin = recorded[1].name
    found = places(fill(root, [*recorded, *changed], plugins), recorded_working_dir(folder.about), (origin,))
    recorded.append(places_layer(origin, found))
    warnings.extend(sentence for place in found for sentence in place.sentences)
    request = Request(scenario=loaded, root=root, layers=[*recorded, *changed], plugins=plugins)
    return StoredRun(folder=folder, request=request, recorded=recorded, trust=trust, warnings=warnings)


def _recorded_layers(
    folder: RunFolder, scenario: LoadedScenario, missing: Sequence[tuple[str, str]], changed: Sequence[Layer]
) -> list[Layer]:
    """Return the run's parameters as they were, in its place as it is now."""
    saved = Layer.from_file(folder.params_file)
    values = localized(saved.values, folder.about.get("resources") or {}, folder.path)
    for kind, name in missing:
        place = PLACES[kind]
        if not any(_names(layer, place) for layer in changed):
            sentence = missing_component(folder.about, kind, name, get_plugin_manager())
            raise PluginError(f"{sentence[:-1]}, or give --{'.'.join(place)} without it.")
        _forget(values, place)
    # The weights come from the checkpoint, and what they began with may be gone.
    here: dict[str, Any] = {"trainer.output_dir": str(folder.path), "trainer.warmstart.model": None}
    if isinstance(folder.about.get("seed"), int):
        here["trainer.random_seed"] = folder.about["seed"]
    return [
        Layer.of_scenario(scenario.name, scenario.cls.defaults),
        Layer(saved.name, values, repeats=True),
        Layer.from_mapping("the run", here),
    ]


def _names(layer: Layer, place: Sequence[str]) -> bool:
    """Return whether a layer chooses the component at a place, in its long or short form."""
    forms = {".".join(place), ".".join(place[1:])}
    inner: Any = layer.values
    for step in place:
        inner = inner.get(step) if isinstance(inner, Mapping) else None
    return inner is not None or bool(forms & {*layer.values, *(option.name for option in layer.options)})


def _forget(values: dict[str, Any], place: Sequence[str]) -> None:
    for step in place[:-1]:
        if not isinstance(values.get(step), Mapping):
            return
        values[step] = dict(values[step])
        values = values[step]
    values.pop(place[-1], None)
