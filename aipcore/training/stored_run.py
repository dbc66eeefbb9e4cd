"""A run on disk to be resumed: its record, its plugins, and the parameters that can change."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from aipcore.errors import PluginError, UsageError
from aipcore.files import as_mapping
from aipcore.hooks.manager import PluginManager, get_plugin_manager
from aipcore.params import Layer, fill
from aipcore.params.dump import component_keys, flat, recorded_text
from aipcore.params.names import normalize
from aipcore.params.resources import localized, places, places_layer
from aipcore.params.tree import COMPONENT_KEY
from aipcore.scenario.loader import LoadedScenario
from aipcore.scenario.record import moved_scenario, recorded_plugins, recorded_scenario, recorded_working_dir
from aipcore.scenario.updates import updates_of
from aipcore.start_tensorflow import prefer_kernels
from aipcore.training.params import run_params_class
from aipcore.training.request import AnyScenario, Request, load_any
from aipcore.training.run_folder import RunFolder, find_run

OTHER_MODEL = "The weights in the checkpoint belong to the original model. Start a new run with aip train."
OTHER_OPTIMIZER = "The checkpoint contains the state of the original optimizer. Start a new run with aip train."
OTHER_FOLDS = "The training data is divided by them. Start a new cross-validation with aip train."
OTHER_NUMBERS = "The run would become a different one. Start a new run with aip train."

REFUSED: Mapping[str, str] = {
    "model": OTHER_MODEL,
    "warmstart": "The weights come from the checkpoint. Leave the option out.",
    "trainer.warmstart": "The weights come from the checkpoint. Leave the option out.",
    "trainer.optimizer.name": OTHER_OPTIMIZER,
    "trainer.precision": OTHER_NUMBERS,
    "trainer.folds": OTHER_FOLDS,
    "trainer.fold": OTHER_FOLDS,
    "trainer.folds_by": OTHER_FOLDS,
    "trainer.random_seed": "The order of the data and dropout depend on it. Leave the option out.",
    "trainer.no_train_scope": "The optimizer has state only for the trained weights. Leave the option out.",
    "trainer.ema_batch_norm": "The checkpoint contains averages for the same weights only. Leave the option out.",
    "train.adapt_samples": "The preprocessing was adapted when the run started. Leave the option out.",
    "trainer.output_dir": "A run is resumed in its own folder. Copy the folder and resume the copy.",
}
"""Reasons why parameters cannot change, by the dotted path of a parameter or group."""

_UPDATE = re.compile(r"^trainer\.updates\.[^.]+\.")

RECOMPILE = ("trainer.tune", "trainer.jit_compile", "trainer.padding_sizes", "trainer.force_eager")
"""Parameters whose change causes a new choice of the compilation."""


@attrs.frozen
class Change:
    """A parameter with a value different from the saved one."""

    path: str
    before: Any
    after: Any


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Return the differences between two nested mappings of parameters (see `to_dict`). Lists are compared whole."""
    old, new = flat(before), flat(after)
    return [
        Change(path, old.get(path), new.get(path))
        for path in dict.fromkeys([*old, *new])
        if old.get(path) != new.get(path) or (path in old) != (path in new)
    ]


def refuse_impossible(found: list[Change], as_shown: Callable[[str], str] = str, fixed: Sequence[str] = ()) -> None:
    """Check that every change is possible.

    Args:
        found: the result of `changes`.
        as_shown: converts a dotted path to the form that users write.
        fixed: further parameters that cannot change, see `Scenario`.

    Raises:
        UsageError: a parameter cannot change.
    """
    for change in found:
        # Each of several updates has the parameters of a single one.
        known = _UPDATE.sub("trainer.", change.path)
        for path, reason in {**REFUSED, **dict.fromkeys(fixed, OTHER_MODEL)}.items():
            if known == path or known.startswith(f"{path}."):
                raise _refusal(change, reason, as_shown)
        if known == "trainer.calc_ema" and 0 in (change.before, change.after):
            raise _refusal(change, "The checkpoint contains averages only if the run started with them.", as_shown)


def _refusal(change: Change, reason: str, as_shown: Callable[[str], str]) -> UsageError:
    change = _within_list(change)
    name = as_shown(change.path.removesuffix(".name"))
    return UsageError(
        f"--{name} cannot change from {_text(change.before)} to {_text(change.after)} when a run is resumed. {reason}"
    )


def _within_list(change: Change) -> Change:
    """Return the first changed option of equally named components in a list; other changes as they are."""
    keys, before, after = component_keys(change.before), change.before, change.after
    if not keys or [each[COMPONENT_KEY] for each in before] != [each.get(COMPONENT_KEY) for each in after or ()]:
        return change
    inner = [(key, each) for key, *pair in zip(keys, before, after, strict=True) for each in changes(*pair)]
    return attrs.evolve(inner[0][1], path=f"{change.path}.{inner[0][0]}.{inner[0][1].path}")


def _text(value: Any) -> str:
    return "none" if value is None else recorded_text(value)


KINDS = ("scenario", "optimizer", "schedule", "callback", "exporter")
"""The kinds of plugins that a run uses."""

UNKNOWN = "The folder's run.json does not list the plugins of the run. Restore the file."


def compare_plugins(about: Mapping[str, Any], plugins: PluginManager) -> tuple[list[str], list[tuple[str, str]]]:
    """Return warnings about other versions, and the missing components (kind, name).

    Args:
        about: the record of the run.
        plugins: the installed plugins.

    Raises:
        PluginError: the scenario or the optimizer is missing. These cannot be replaced.
    """
    warnings: list[str] = []
    missing: list[tuple[str, str]] = []
    for each in _components(about):
        kind, name, package, version = each
        if plugins.has(kind, name):
            here = plugins.entry(kind, name).plugin
            # A changed scenario file is reported with the scenario's source.
            if here.given != "scenario" and not here.is_from(package, version):
                before = package if Path(package).is_absolute() else f"{package} {version}"
                changed = ", which is different" if here.file is not None and package == before else ""
                warnings.append(
                    f"The {kind} {name} came from {before} and now comes from {here.source}{changed}. "
                    "The results may differ from those of an uninterrupted run."
                )
        elif kind in ("scenario", "optimizer"):
            raise PluginError(_missing(each, plugins))
        else:
            missing.append((kind, name))
    return warnings, missing


def missing_component(about: Mapping[str, Any], kind: str, name: str, plugins: PluginManager) -> str:
    """Return a sentence about a missing component, with its origin and the next step."""
    return _missing(next(each for each in _components(about) if each[:2] == (kind, name)), plugins)


def _components(about: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    try:
        found = [
            tuple(str(each[key]) for key in ("kind", "name", "package", "version")) for each in about["components"]
        ]
    except (KeyError, TypeError, IndexError) as error:
        raise UsageError(UNKNOWN) from error
    if any(kind not in KINDS for kind, *_ in found):
        raise UsageError(UNKNOWN)
    return found  # type: ignore[return-value]


def _missing(component: tuple[str, str, str, str], plugins: PluginManager) -> str:
    kind, name, package, version = component
    if Path(package).is_absolute():
        return f"The {kind} {name} of this run came from {package}, which does not have it any more. Restore it."
    message = f"The {kind} {name} of this run came from {package} {version}, which "
    for plugin in plugins.plugins:
        if normalize(plugin.distribution) == normalize(package):
            return (
                f"{message}is installed as {plugin.source}, but {plugin.reason or 'does not have it'}. Fix this first."
            )
    return f"{message}is not installed. Run pip install {package}=={version}."


PLACES = {
    "optimizer": ("trainer", "optimizer"),
    "schedule": ("trainer", "learning_rate"),
    "callback": ("trainer", "callbacks"),
    "exporter": ("trainer", "export", "formats"),
}
"""Paths of the parameters that select a plugin of each kind."""


@attrs.frozen(kw_only=True)
class StoredRun:
    """A run to be resumed.

    Attributes:
        folder: the run folder.
        request: its scenario and the layers of its parameters, including changes.
        recorded: the layers without the changes.
        trust: True if addresses named in the folder may be contacted.
        warnings: sentences for the user.
        given: the scenario given by the user in place of the recorded one, or None.
    """

    folder: RunFolder
    request: Request
    recorded: list[Layer]
    trust: bool
    warnings: list[str]
    given: AnyScenario | None = None


def find_stored_run(
    given: Path, changed: Sequence[Layer], *, trust: bool, scenario: AnyScenario | None = None
) -> StoredRun:
    """Read the record of a run, without executing any code from its folder unless it is trusted.

    Args:
        given: see `resume`.
        changed: the layers of changed parameters.
        trust: see `resume`.
        scenario: see `resume`.

    Raises:
        AipError: see `resume`.
    """
    folder = find_run(given)
    prefer_kernels(as_mapping(folder.about.get("versions")).get("kernels"))
    replaced = [kind for kind, place in PLACES.items() if any(_names(layer, place) for layer in changed)]
    plugins = recorded_plugins(
        folder.about,
        get_plugin_manager(),
        trust=trust,
        where=folder.path,
        applied=False,
        replaced=[*(kind for kind in replaced if kind != "optimizer"), *([] if scenario is None else ["scenario"])],
    )
    moved = ""
    if scenario is not None:
        loaded = load_any(scenario, plugins)
    else:
        if folder.about["scenario"]["kind"] == "plugin":
            # A missing package is the reason for a missing scenario.
            compare_plugins(folder.about, plugins)
        loaded = recorded_scenario(folder.about, plugins, trust=trust, where=folder.path)
        moved = moved_scenario(folder.about, loaded)
    plugins = loaded.plugins(plugins)
    warnings, missing = compare_plugins(folder.about, plugins)
    warnings.extend([moved] if moved else [])
    root = run_params_class(loaded.cls.params_class, updates_of(loaded.cls))
    recorded = _recorded_layers(folder, loaded, missing, changed, plugins)
    origin = recorded[1].name
    found = places(fill(root, [*recorded, *changed], plugins), recorded_working_dir(folder.about), (origin,))
    recorded.append(places_layer(origin, found))
    warnings.extend(sentence for place in found for sentence in place.sentences)
    request = Request(scenario=loaded, root=root, layers=[*recorded, *changed], plugins=plugins, is_recorded=True)
    return StoredRun(folder=folder, request=request, recorded=recorded, trust=trust, warnings=warnings, given=scenario)


def _recorded_layers(
    folder: RunFolder,
    scenario: LoadedScenario,
    missing: Sequence[tuple[str, str]],
    changed: Sequence[Layer],
    plugins: PluginManager,
) -> list[Layer]:
    """Return the run's recorded parameters, adapted to the current place of its folder."""
    saved = Layer.from_file(folder.params_file)
    values = localized(saved.values, folder.about.get("resources") or {}, folder.path)
    for kind, name in missing:
        for place in _places(values, kind, name):
            if not any(_names(layer, place) for layer in changed):
                sentence = missing_component(folder.about, kind, name, plugins)
                raise PluginError(f"{sentence[:-1]}, or give --{'.'.join(place)} without it.")
            _forget(values, place)
    here: dict[str, Any] = {"trainer.output_dir": str(folder.path)}
    if folder.chosen is not None or any(folder.checkpoints.glob("step-*")):
        # The weights come from the checkpoint. The source of the warm start may no longer exist.
        here["trainer.warmstart.model"] = None
    if isinstance(folder.about.get("seed"), int):
        here["trainer.random_seed"] = folder.about["seed"]
    return [
        Layer.of_scenario(scenario.name, scenario.cls.defaults, f"{scenario.cls.__name__}.defaults"),
        Layer(saved.name, values, repeats=True),
        Layer.from_mapping("the run", here),
    ]


def _places(values: Mapping[str, Any], kind: str, name: str) -> list[tuple[str, ...]]:
    """Return the paths of the recorded parameters that select a component."""
    trainer = values.get("trainer")
    updates = trainer.get("updates") if isinstance(trainer, Mapping) else None
    if kind != "schedule" or not isinstance(updates, Mapping):
        return [PLACES[kind]]
    places = [("trainer", "updates", str(update), "learning_rate") for update in updates]
    return [place for place in places if normalize(str(_at(values, (*place, COMPONENT_KEY)))) == normalize(name)]


def _at(values: Any, place: Sequence[str]) -> Any:
    for step in place:
        values = values.get(step) if isinstance(values, Mapping) else None
    return values


def _names(layer: Layer, place: Sequence[str]) -> bool:
    """Return True if a layer selects the component at a place, in its long or short form."""
    forms = {".".join(place), ".".join(place[1:])}
    return _at(layer.values, place) is not None or bool(forms & set(layer.values))


def _forget(values: dict[str, Any], place: Sequence[str]) -> None:
    for step in place[:-1]:
        if not isinstance(values.get(step), Mapping):
            return
        values[step] = dict(values[step])
        values = values[step]
    values.pop(place[-1], None)
