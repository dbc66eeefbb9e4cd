"""What a run records about itself in `aip.json`, `run.json` and checkpoints, and the scenario that it names.

Reading a record runs no code: a scenario plugin is found by its name among those that are installed, and a scenario
from a file or module is imported only if the user trusts the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from aipcore.errors import ScenarioError, UsageError
from aipcore.files import MANIFEST_BYTES, RECORD_BYTES, read_json
from aipcore.scenario.loader import LoadedScenario, load_scenario

if TYPE_CHECKING:
    from aipcore.hooks.manager import PluginManager

ABOUT_FILE = "aip.json"
"""The record in the folder of a model."""

ALWAYS_WRITTEN = "SavedModel"
"""The format that every run writes, by the name of its exporter; the one that aip itself can apply."""

DEFAULT_GRAPH = "serving_default"
"""The name of the signature of the model that is applied."""

MODEL_FORMAT = 1
"""Version of the record of a model."""


def read_record(path: Path) -> dict[str, Any]:
    """Reads a record.

    Raises:
        UsageError: it is damaged, or lacks the scenario or its parameters.
    """
    return checked_record(_read(path), path)


def read_checkpoint_record(folder: Path) -> dict[str, Any]:
    """The record of a checkpoint, which is part of its manifest or of its progress.

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
        reason = getattr(error, "strerror", None) or "it is no valid JSON"
        raise UsageError(f"{path} cannot be read ({reason}): the folder is damaged, take another copy.") from error


def checked_record(about: Any, path: Path) -> dict[str, Any]:
    """What was read, if it is a record.

    Args:
        about: from a file that anybody may have written.
        path: of the file.

    Raises:
        UsageError: it lacks the scenario or its parameters.
    """
    scenario = about.get("scenario") if isinstance(about, dict) else None
    texts = [scenario.get(key) for key in ("name", "kind", "reference")] if isinstance(scenario, dict) else [None]
    if not all(isinstance(text, str) for text in texts) or not isinstance(about.get("params"), dict):
        raise UsageError(f"{path} does not say what it is of: it is no record of aip, or damaged.")
    return about  # type: ignore[no-any-return]


def recorded_scenario(about: Mapping[str, Any], plugins: PluginManager, *, trust: bool, where: Path) -> LoadedScenario:
    """The scenario that a record names.

    Args:
        about: from `read_record`, or what a checkpoint recorded.
        plugins: the installed plugins.
        trust: whether to import a scenario that is no plugin.
        where: what the record is of: a model, a run, or a file of answers.

    Raises:
        UsageError: the record names a plugin that is not installed, or no plugin and is not trusted, or what it names
            cannot be imported.
    """
    try:
        return _recorded_scenario(about, plugins, trust=trust)
    except UsageError as error:
        raise type(error)(f"{where}: {error}") from error


def _recorded_scenario(about: Mapping[str, Any], plugins: PluginManager, *, trust: bool) -> LoadedScenario:
    recorded = about["scenario"]
    name, kind, reference = recorded["name"], recorded["kind"], _reference(about)
    if kind == "plugin":
        found = plugins.find_scenario(name)
        if found is None:
            raise ScenarioError(
                f"The scenario {name} is not installed: install {_source(recorded)}, or enable the plugin if it is "
                "disabled."
            )
        return load_scenario(name, names=plugins.names("scenario"), find=plugins.find_scenario)
    if kind == "class":
        raise ScenarioError(
            f"The scenario {reference} is a class of a program or notebook and cannot be imported. Pass the class: "
            f"aipcore.resume(folder, scenario={reference.rpartition('.')[2].rpartition(':')[2]})."
        )
    if not trust:
        raise ScenarioError(
            f"The scenario is no plugin but the {kind} {reference}, whose code would be run: look at it, and add "
            "--trust."
        )
    folder = Path(str(recorded["folder"])) if "folder" in recorded else None
    if folder is not None and not folder.is_dir():
        folder = None
    loaded = load_scenario(reference, names=plugins.names("scenario"), find=lambda _: None, folder=folder)
    return attrs.evolve(loaded, name=name)


def moved_scenario(about: Mapping[str, Any], loaded: LoadedScenario) -> str:
    """A sentence if the file of a scenario is another than the recorded one; empty otherwise."""
    recorded = about["scenario"]["reference"]
    if loaded.kind != "file" or loaded.reference == recorded:
        return ""
    return f"The scenario {recorded} is gone: {loaded.reference} is taken."


def _reference(about: Mapping[str, Any]) -> str:
    """What to load; a file that is gone is the one at the same place in this folder, if a project was moved whole."""
    recorded: str = about["scenario"]["reference"]
    file, _, attribute = recorded.rpartition(":")
    before = recorded_working_dir(about)
    if about["scenario"]["kind"] != "file" or Path(file).exists() or not Path(file).is_relative_to(before):
        return recorded
    here = Path.cwd() / Path(file).relative_to(before)
    return f"{here}:{attribute}" if here.is_file() else recorded


def recorded_working_dir(about: Mapping[str, Any]) -> Path:
    """The folder that relative paths of a record were written in; the working folder, if it does not say."""
    folder = about.get("working_dir", about["scenario"].get("folder"))
    return Path(folder) if isinstance(folder, str) and Path(folder).is_absolute() else Path.cwd()


def _source(recorded: Mapping[str, Any]) -> str:
    distribution, version = recorded.get("distribution"), recorded.get("version")
    if not isinstance(distribution, str):
        return "the package that it comes from"
    return f"{distribution}=={version}" if isinstance(version, str) else distribution
