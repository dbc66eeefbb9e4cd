"""The parts of a run, built from parameters and plugins, and the records that describe a run."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aipcore.errors import TrainingError
from aipcore.files import as_mapping
from aipcore.hooks.manager import PluginManager
from aipcore.params import Choice, Resolved, to_dict
from aipcore.params.resources import copy_resources, planned_copies
from aipcore.scenario.loader import LoadedScenario
from aipcore.scenario.record import ALWAYS_WRITTEN, used_files
from aipcore.start_tensorflow import KERNELS, used_kernels
from aipcore.training.checkpoint.atomic import write_file
from aipcore.training.engine.learning_rate import Horizon, build_schedule
from aipcore.training.export.formats import make_format
from aipcore.training.export.requirements import require_packages
from aipcore.training.params import TrainerParams
from aipcore.training.reporter import TrainResult
from aipcore.training.setup import RunComponents
from aipcore.training.update_params import optimizer_params
from aipcore.training.updates import UpdateComponents


def make_parts(params: TrainerParams, plugins: PluginManager) -> RunComponents:
    """Build optimizer, schedule, callbacks and exporters with the selected plugins."""
    require_packages(params.export.formats, plugins, "--export.formats")
    formats = {plugins.canonical("exporter", each.name): make_format(each, plugins) for each in params.export.formats}
    if ALWAYS_WRITTEN not in formats:
        always = Choice(ALWAYS_WRITTEN, plugins.params_class("exporter", ALWAYS_WRITTEN)())
        formats = {ALWAYS_WRITTEN: make_format(always, plugins), **formats}
    return RunComponents(
        schedule=_schedule_builder(params.learning_rate, plugins),
        optimizer=plugins.builder("optimizer", params.optimizer),
        updates={
            name: UpdateComponents(
                schedule=_schedule_builder(each.learning_rate, plugins),
                optimizer=plugins.builder("optimizer", each.optimizer),
            )
            for name, each in optimizer_params(params).items()
        },
        callbacks={
            plugins.canonical("callback", each.name): plugins.builder("callback", each) for each in params.callbacks
        },
        formats=formats,
    )


def _schedule_builder(chosen: Choice[Any], plugins: PluginManager) -> Callable[[Horizon], Any]:
    return partial(build_schedule, plugins.chosen_build("schedule", chosen), chosen.params)


def about_run(scenario: LoadedScenario, resolved: Resolved[Any], plugins: PluginManager) -> dict[str, Any]:
    """Return the identity of a run: its scenario, every parameter with its origin, and the versions of all parts."""
    copies, _ = planned_copies(resolved.value)
    return {
        "scenario": _about_scenario(scenario, plugins),
        "working_dir": str(Path.cwd()),
        "params": to_dict(resolved.value),
        "resources": copies,
        "origins": dict(resolved.origins),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("aipcore", "tensorflow", "keras", "numpy")},
            "kernels": used_kernels(),
        },
        "plugins": plugins.versions(),
        "components": _components(scenario, resolved.value.trainer, plugins),
        "plugin_files": [file.to_plain() for file in used_files(scenario, resolved.tree, plugins)],
    }


def changed_kernels(before: Mapping[str, Any], about: Mapping[str, Any]) -> list[str]:
    """Return a warning if a resumed run was trained with other kernels."""
    recorded, here = (as_mapping(each.get("versions")).get("kernels") for each in (before, about))
    if recorded not in KERNELS or recorded == here:
        return []
    return [
        f"The run was trained with the CPU kernels of {recorded}, and this process uses those of {here}. The results "
        f"may differ in the last digits. Resume in a new process with TF_ENABLE_ONEDNN_OPTS={KERNELS[recorded]}."
    ]


def _about_scenario(scenario: LoadedScenario, plugins: PluginManager) -> dict[str, Any]:
    about: dict[str, Any] = {
        "name": scenario.name,
        "origin": scenario.origin,
        "kind": scenario.kind,
        "reference": scenario.reference,
        "folder": str(scenario.folder),
    }
    if scenario.kind == "plugin":
        plugin = plugins.entry("scenario", scenario.name).plugin
        about |= {"distribution": plugin.distribution, "version": plugin.version}
    return about


def _components(scenario: LoadedScenario, params: TrainerParams, plugins: PluginManager) -> list[dict[str, str]]:
    """Return the plugins used by the run, each with its package."""
    chosen = [("scenario", scenario.name)] if scenario.kind == "plugin" else []
    used = [
        (kind, choice)
        for each in optimizer_params(params).values() or [params]
        for kind, choice in (("optimizer", each.optimizer), ("schedule", each.learning_rate))
    ]
    several = (("callback", params.callbacks), ("exporter", params.export.formats))
    chosen += [(kind, plugins.canonical(kind, each.name)) for kind, each in used]
    chosen += [(kind, plugins.canonical(kind, each.name)) for kind, those in several for each in those]
    found = []
    for kind, name in dict.fromkeys(chosen):
        plugin = plugins.entry(kind, name).plugin
        found.append({"kind": kind, "name": name, "package": plugin.distribution, "version": plugin.version})
    return found


def write_run_files(output_dir: Path, about: dict[str, Any], resources: Mapping[str, Path] | None = None) -> None:
    """Write all records to `run.json` and the resolved parameters to `params.json`, and copy resources.

    Each file is replaced atomically. `params.json` is an input for `--params`.

    Args:
        output_dir: the run folder.
        about: the result of `about_run`.
        resources: the source of each copy, as returned by `planned_copies`.

    Raises:
        TrainingError: a resource cannot be copied.
    """
    for name, content in (("run.json", about), ("params.json", about["params"])):
        write_file(output_dir / name, json.dumps(content, indent=2) + "\n")
    try:
        copy_resources(resources or {}, output_dir)
    except OSError as error:
        raise TrainingError(
            f"{error.filename or 'A resource'} could not be copied to {output_dir} ({error.strerror}). Check "
            "that it still exists."
        ) from error


def record_result(output_dir: Path, about: Mapping[str, Any], result: TrainResult) -> None:
    """Add the result to `run.json` if no checkpoint has it. Without it, the run looks like a killed one."""
    if result.signal is None and (result.partial or not about["params"]["trainer"]["write_checkpoints"]):
        kept = ("status", "epochs", "updates", "history", "validations", "monitor", "best", "best_epoch", "best_step")
        content = {**about, "result": {name: getattr(result, name) for name in kept}}
        write_file(output_dir / "run.json", json.dumps(content, indent=2) + "\n")
