"""Records of a run in `aip.json`, `run.json` and checkpoints, and the recorded scenario.

Reading a record runs no code. A scenario plugin is found by its name among the installed plugins. A scenario from a
file or module is imported only if the user trusts the record.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from aipcore.errors import PluginError, ScenarioError, UsageError
from aipcore.files import MANIFEST_BYTES, RECORD_BYTES, read_json
from aipcore.hooks.discovery import PluginFile
from aipcore.hooks.plugin_files import fingerprint_of
from aipcore.params.tree import Component, Group, walk
from aipcore.scenario.loader import LoadedScenario, load_scenario

if TYPE_CHECKING:
    from aipcore.hooks.manager import PluginManager

ABOUT_FILE = "aip.json"
"""The record in a model's folder."""

ALWAYS_WRITTEN = "SavedModel"
"""The name of the exporter that every run uses; aip can apply only this format."""

DEFAULT_GRAPH = "serving_default"
"""The name of the applied model's signature."""

MODEL_FORMAT = 1
"""Version of the model record."""


def read_record(path: Path) -> dict[str, Any]:
    """Read a record.

    Raises:
        UsageError: the record is damaged, or lacks the scenario or its parameters.
    """
    return checked_record(_read(path), path)


def read_checkpoint_record(folder: Path) -> dict[str, Any]:
    """Return the record of a checkpoint from its manifest or its progress file.

    Raises:
        UsageError: see `read_record`.
    """
    manifest = _read(folder / "manifest.json", MANIFEST_BYTES)
    if isinstance(manifest, dict) and "about" in manifest:
        return checked_record(manifest["about"], folder / "manifest.json")
    return read_record(folder / "progress.json")


def _read(path: Path, limit: int = RECORD_BYTES) -> Any:
    try:
        return read_json(path, limit=limit)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not valid JSON"
        raise UsageError(f"{path} cannot be read ({reason}). The folder is damaged. Use another copy.") from error


def checked_record(about: Any, path: Path) -> dict[str, Any]:
    """Return a record after checking it.

    Args:
        about: untrusted content of the file.
        path: the file.

    Raises:
        UsageError: the scenario or its parameters are missing.
    """
    scenario = about.get("scenario") if isinstance(about, dict) else None
    texts = [scenario.get(key) for key in ("name", "kind", "reference")] if isinstance(scenario, dict) else [None]
    if not all(isinstance(text, str) for text in texts) or not isinstance(about.get("params"), dict):
        raise UsageError(
            f"{path} is not a record of aip, or it is damaged: the scenario or its parameters are missing. Use another "
            "copy."
        )
    return about  # type: ignore[no-any-return]


def recorded_scenario(about: Mapping[str, Any], plugins: PluginManager, *, trust: bool, where: Path) -> LoadedScenario:
    """Return the recorded scenario.

    Args:
        about: from `read_record`, or the record of a checkpoint.
        plugins: the installed plugins.
        trust: True to import a scenario that is not a plugin.
        where: the subject of the record: a model, a run, or a file of outputs.

    Raises:
        UsageError: the plugin is not installed, the scenario is not a plugin and the record is not trusted, or the
            scenario cannot be imported.
    """
    recorded = about["scenario"]
    if not trust and recorded["kind"] not in ("plugin", "class"):
        raise ScenarioError(
            f"{where} uses the scenario {recorded['kind']} {_reference(about)}, and loading it runs its code. If you "
            "trust that code, add --trust."
        )
    try:
        return _recorded_scenario(about, plugins)
    except UsageError as error:
        raise type(error)(f"{where}: {error}") from error


def _recorded_scenario(about: Mapping[str, Any], plugins: PluginManager) -> LoadedScenario:
    recorded = about["scenario"]
    name, kind, reference = recorded["name"], recorded["kind"], _reference(about)
    if kind == "plugin":
        found = plugins.find_scenario(name)
        if found is None:
            raise ScenarioError(
                f"The scenario {name} is not installed. Install {_source(recorded)}, or enable the plugin if it is "
                "disabled."
            )
        return load_scenario(name, names=plugins.names("scenario"), find=plugins.find_scenario)
    if kind == "class":
        raise ScenarioError(
            f"The scenario {reference} is a class of a program or notebook and cannot be imported. Pass the class, "
            f"as in aipcore.resume(folder, scenario={reference.rpartition('.')[2].rpartition(':')[2]})."
        )
    folder = Path(str(recorded["folder"])) if "folder" in recorded else None
    if folder is not None and not folder.is_dir():
        folder = None
    loaded = load_scenario(reference, names=plugins.names("scenario"), find=lambda _: None, folder=folder)
    return attrs.evolve(loaded, name=name)


@attrs.frozen(kw_only=True)
class RecordedFile:
    """A plugin file that a run used.

    Attributes:
        path: recorded path.
        fingerprint: recorded fingerprint.
        components: kind and name of each component that the run used.
        model: True if the model cannot be applied without the file.
    """

    path: Path
    fingerprint: str
    components: tuple[tuple[str, str], ...]
    model: bool

    def to_plain(self) -> dict[str, Any]:
        """Return the record in JSON types."""
        components = [{"kind": kind, "name": name} for kind, name in self.components]
        return {"path": str(self.path), "fingerprint": self.fingerprint, "components": components, "model": self.model}


def used_files(scenario: LoadedScenario, tree: Group, plugins: PluginManager) -> list[RecordedFile]:
    """Return the plugin files that provide the scenario or a component chosen by the parameters.

    The file of the scenario itself is not included: it is recorded with the scenario.

    Args:
        scenario: the scenario.
        tree: the resolved parameters.
        plugins: the available plugins.
    """
    chosen = [("scenario", scenario.name, True)] if scenario.kind == "plugin" else []
    for node in walk(tree):
        if isinstance(node, Component) and isinstance(node.spec.choices, str):
            chosen += [(node.kind, name, node.path[0] != "trainer") for name in node.selected]
    by_path: dict[Path, list[tuple[str, str, bool]]] = {}
    fingerprints: dict[Path, str] = {}
    for kind, name, model in dict.fromkeys(chosen):
        plugin = plugins.entry(kind, name).plugin
        if plugin.file is not None and plugin.given != "scenario":
            by_path.setdefault(plugin.file, []).append((kind, name, model))
            fingerprints[plugin.file] = plugin.version
    return [
        RecordedFile(
            path=path,
            fingerprint=fingerprints[path],
            components=tuple((kind, name) for kind, name, _ in found),
            model=any(model for _, _, model in found),
        )
        for path, found in by_path.items()
    ]


def recorded_plugins(
    about: Mapping[str, Any],
    plugins: PluginManager,
    *,
    trust: bool,
    where: Path,
    applied: bool,
    replaced: Collection[str] = (),
) -> PluginManager:
    """Return the available plugins with those of the recorded plugin files that are needed and not available.

    Args:
        about: see `recorded_scenario`.
        plugins: the available plugins.
        trust: True to load a file that the record names.
        where: see `recorded_scenario`.
        applied: True if only the model is applied; files that only its training needed are left out.
        replaced: kinds of components that the user replaces by others.

    Raises:
        UsageError: a file is needed, and is missing, changed or not trusted; or the record is damaged.
        PluginError: a file is broken.
    """
    for file in _recorded_files(about, where):
        lacking = [each for each in file.components if not plugins.has(*each)]
        if not lacking or (applied and not file.model):
            continue
        path = _moved(file.path, about)
        if problem := _problem(file, path, trust=trust):
            if all(kind in replaced for kind, _ in lacking):
                continue
            *others, last = [f"the {kind} {name}" for kind, name in lacking]
            what = f"{', '.join(others)} and {last}" if others else last
            raise PluginError(f"{where} uses {what} of the plugin file {path}{problem}")
        plugins = plugins.with_file(PluginFile(path=path, given="run"))
    return plugins


def _problem(file: RecordedFile, path: Path, *, trust: bool) -> str:
    """Return the end of a sentence about a recorded plugin file that cannot be loaded; empty if it can."""
    if not trust:
        return ", and loading it runs its code. If you trust that code, add --trust, or name the file with -p FILE."
    if not path.is_file():
        return ", which is missing. Restore it, or name a copy with -p FILE."
    if fingerprint_of(path) != file.fingerprint:
        return ", which has changed since. Restore it, or name it with -p FILE to use the changed file."
    return ""


def _recorded_files(about: Mapping[str, Any], where: Path) -> list[RecordedFile]:
    try:
        return [
            RecordedFile(
                path=Path(_text(each["path"])),
                fingerprint=_text(each["fingerprint"]),
                components=tuple((_text(used["kind"]), _text(used["name"])) for used in each["components"]),
                model=bool(each["model"]),
            )
            for each in about.get("plugin_files") or []
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{where} has no valid record of its plugin files. It is damaged. Use another copy."
        ) from error


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(value)
    return value


def moved_scenario(about: Mapping[str, Any], loaded: LoadedScenario) -> str:
    """Return a sentence if the file of a scenario is not the recorded one; otherwise an empty text."""
    recorded = about["scenario"]["reference"]
    if loaded.kind != "file" or loaded.reference == recorded:
        return ""
    return f"The scenario {recorded} no longer exists. {loaded.reference} is used instead."


def _reference(about: Mapping[str, Any]) -> str:
    """Return the text to load. For a project moved as a whole, this is the file at the same place in this folder."""
    recorded: str = about["scenario"]["reference"]
    file, _, attribute = recorded.rpartition(":")
    if about["scenario"]["kind"] != "file":
        return recorded
    moved = _moved(Path(file), about)
    return recorded if moved == Path(file) else f"{moved}:{attribute}"


def _moved(file: Path, about: Mapping[str, Any]) -> Path:
    """Return a recorded file; for a project moved as a whole, the file at the same place in this folder."""
    before = recorded_working_dir(about)
    if file.exists() or not file.is_relative_to(before):
        return file
    here = Path.cwd() / file.relative_to(before)
    return here if here.is_file() else file


def recorded_working_dir(about: Mapping[str, Any]) -> Path:
    """Return the folder to which a record's relative paths refer; by default the working folder."""
    folder = about.get("working_dir", about["scenario"].get("folder"))
    return Path(folder) if isinstance(folder, str) and Path(folder).is_absolute() else Path.cwd()


def _source(recorded: Mapping[str, Any]) -> str:
    distribution, version = recorded.get("distribution"), recorded.get("version")
    if not isinstance(distribution, str):
        return "its package"
    return f"{distribution}=={version}" if isinstance(version, str) else distribution
