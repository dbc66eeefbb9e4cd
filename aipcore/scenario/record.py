"""Records of a run in `aip.json`, `run.json` and checkpoints, and the recorded scenario.

Reading a record runs no code. A scenario plugin is found by its name among the installed plugins. A scenario from a
file or module is imported only if the user trusts the record.
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
    before = recorded_working_dir(about)
    if about["scenario"]["kind"] != "file" or Path(file).exists() or not Path(file).is_relative_to(before):
        return recorded
    here = Path.cwd() / Path(file).relative_to(before)
    return f"{here}:{attribute}" if here.is_file() else recorded


def recorded_working_dir(about: Mapping[str, Any]) -> Path:
    """Return the folder to which a record's relative paths refer; by default the working folder."""
    folder = about.get("working_dir", about["scenario"].get("folder"))
    return Path(folder) if isinstance(folder, str) and Path(folder).is_absolute() else Path.cwd()


def _source(recorded: Mapping[str, Any]) -> str:
    distribution, version = recorded.get("distribution"), recorded.get("version")
    if not isinstance(distribution, str):
        return "its package"
    return f"{distribution}=={version}" if isinstance(version, str) else distribution
