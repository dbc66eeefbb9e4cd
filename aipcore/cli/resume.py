"""`aip resume`: goes on with a run from its newest complete checkpoint, under changed parameters if asked to."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click
from rich.console import Console

import aipcore
from aipcore.cli.peers import find_cluster, prefix, tell_user
from aipcore.cli.request import HELP, PARAMS, CommandOption, Request, split_arguments
from aipcore.cli.scenario_help import show_help, show_options
from aipcore.cli.train import JSON_LOG, QUIET
from aipcore.errors import PluginError, UsageError
from aipcore.hooks.manager import PluginManager, get_plugin_manager
from aipcore.params import Layer, Resolved, to_dict
from aipcore.params.names import normalize
from aipcore.params.resources import localized
from aipcore.params.tree import short_paths, shown
from aipcore.scenario.loader import LoadedScenario, load_scenario
from aipcore.training.overrides import RECOMPILE, Change, changes, refuse_impossible
from aipcore.training.params import run_params_class
from aipcore.training.run_folder import RunFolder, exported_epoch, find_run, locked, recover_models, set_aside

if TYPE_CHECKING:
    from aipcore.devices.cluster import Cluster
    from aipcore.devices.workers import Workers
    from aipcore.training.checkpoint import Checkpoint
    from aipcore.training.reporter import Reporter, TrainResult

SUMMARY = "Go on with a run from its newest checkpoint."
TRUST = CommandOption(
    ("--trust",), "Run the code of the file or module that the folder names as its scenario; look at it first."
)
OPTIONS = (HELP, PARAMS, TRUST, QUIET, JSON_LOG)

PLACES = {
    "optimizer": ("trainer", "optimizer"),
    "schedule": ("trainer", "learning_rate"),
    "callback": ("trainer", "callbacks"),
    "exporter": ("trainer", "export", "formats"),
}
"""Where the parameters name a plugin of each kind."""


@attrs.frozen(kw_only=True)
class Resumption:
    """A run that is to go on.

    Attributes:
        folder: where it lies.
        request: its scenario and the layers of its parameters.
        resolved: its parameters from now on.
        found: what differs from before.
        warnings: what the user should know, in sentences.
    """

    folder: RunFolder
    request: Request
    resolved: Resolved[Any]
    found: list[Change]
    warnings: list[str]


@click.command(
    "resume",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def command(words: tuple[str, ...]) -> None:
    """Go on with a run from its newest checkpoint."""
    arguments = split_arguments(words, OPTIONS, "resume", first="DIR")
    console = Console()
    if arguments.scenario is None:
        if "--help" not in arguments.options:
            raise UsageError("Name the folder of a run: aip resume DIR; aip resume --help shows more.")
        console.print(f"Usage: [bold]aip resume DIR \\[OPTIONS] \\[PARAMETERS][/bold]\n\n{SUMMARY}\n")
        show_options(console, OPTIONS)
        console.print("\nDIR is the output folder of a run, its checkpoint folder, or one checkpoint in that.")
        console.print("All parameters of a run: [bold]aip resume DIR --help[/bold]")
        return
    folder = find_run(Path(arguments.scenario))
    scenario = _scenario(folder, trust="--trust" in arguments.options)
    plugins = get_plugin_manager()
    file = arguments.options.get("--params")
    given = [*([] if file is None else [Layer.from_file(Path(file))]), Layer.from_arguments(arguments.rest)]
    warnings, missing = _compare_plugins(folder.about, plugins)
    base = _saved_layers(folder, scenario, missing, given)
    root = run_params_class(scenario.cls.params_class)
    request = Request(scenario=scenario, root=root, layers=[*base, *given], plugins=plugins)
    if "--help" in arguments.options:
        show_help(console, request, "resume", OPTIONS)
        return
    resolved = request.checked()
    before = attrs.evolve(request, layers=base).resolved()
    found = changes(to_dict(before.value, plugins), to_dict(resolved.value, plugins))
    shorts = short_paths(resolved.tree)
    refuse_impossible(found, lambda path: shown(tuple(path.split(".")), shorts))
    resumption = Resumption(folder=folder, request=request, resolved=resolved, found=found, warnings=warnings)
    json_log = arguments.options.get("--json-log")
    cluster = find_cluster(resolved.value.trainer.device)
    chief = cluster is None or cluster.index == 0
    with locked(folder.path) if chief else nullcontext():
        result = _resume(
            resumption,
            console,
            cluster,
            quiet="--quiet" in arguments.options,
            json_log=None if json_log is None or not chief else Path(json_log),
        )
    if result is not None and result.signal is not None:
        sys.exit(128 + result.signal)


def _scenario(folder: RunFolder, *, trust: bool) -> LoadedScenario:
    """The scenario of a run: a plugin by its name, anything else only if the user trusts it."""
    plugins, recorded = get_plugin_manager(), folder.about["scenario"]
    name = recorded["name"]
    if recorded["kind"] == "plugin":
        found = plugins.find_scenario(name)
        if found is None:
            _compare_plugins(folder.about, plugins)
            raise PluginError(
                f"The run's scenario is the plugin {name}, which is not installed: install its package; "
                "aip plugins list shows what there is."
            )
        return load_scenario(name, names=plugins.names("scenario"), find=plugins.find_scenario)
    if not trust:
        raise UsageError(
            f"The run's scenario is the {recorded['kind']} {recorded['reference']}, and to resume it runs that code: "
            "look at it, and add --trust."
        )
    if recorded["kind"] == "module" and recorded["folder"] not in sys.path:
        sys.path.append(recorded["folder"])
    loaded = load_scenario(recorded["reference"], names=plugins.names("scenario"), find=lambda _: None)
    return attrs.evolve(loaded, name=name)


def _compare_plugins(about: Mapping[str, Any], plugins: PluginManager) -> tuple[list[str], list[tuple[str, str]]]:
    """Warnings of other versions, and the components (kind, name) that are missing.

    Raises:
        PluginError: the scenario or the optimizer is missing, which nothing can replace.
    """
    warnings: list[str] = []
    missing: list[tuple[str, str]] = []
    for each in _components(about):
        kind, name, package, version = each
        if plugins.has(kind, name):
            here = plugins.entry(kind, name).plugin
            if (normalize(here.distribution), here.version) != (normalize(package), version):
                warnings.append(
                    f"The {kind} {name} was that of {package} {version} so far and is that of {here.source} now: "
                    "the run may not go on as it would have."
                )
        elif kind in ("scenario", "optimizer"):
            raise PluginError(_missing(each, plugins))
        else:
            missing.append((kind, name))
    return warnings, missing


def _components(about: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    try:
        return [tuple(str(each[key]) for key in ("kind", "name", "package", "version")) for each in about["components"]]  # type: ignore[misc]
    except (KeyError, TypeError) as error:
        raise UsageError("The folder's run.json does not say which plugins the run is made of: restore it.") from error


def _missing(component: tuple[str, str, str, str], plugins: PluginManager) -> str:
    kind, name, package, version = component
    message = f"The {kind} {name} of this run came from {package} {version}, which "
    for plugin in plugins.plugins:
        if normalize(plugin.distribution) == normalize(package):
            return f"{message}is here as {plugin.source}, but {plugin.reason or 'does not have it'}: mend that first."
    return f"{message}is not installed: install it (pip install {package}=={version})."


def _saved_layers(
    folder: RunFolder, scenario: LoadedScenario, missing: Sequence[tuple[str, str]], given: Sequence[Layer]
) -> list[Layer]:
    """The run's parameters as they were, in its place as it is now."""
    saved = Layer.from_file(folder.params_file)
    values = localized(saved.values, folder.about.get("resources") or {}, folder.path)
    for kind, name in missing:
        place = PLACES[kind]
        if not any(_names(layer, place) for layer in given):
            component = next(each for each in _components(folder.about) if each[:2] == (kind, name))
            plugins = get_plugin_manager()
            raise PluginError(f"{_missing(component, plugins)[:-1]}, or give --{'.'.join(place)} without it.")
        _forget(values, place)
    # The weights come from the checkpoint, and what they began with may be gone.
    here: dict[str, Any] = {"trainer.output_dir": str(folder.path), "trainer.warmstart.model": None}
    if isinstance(folder.about.get("seed"), int):
        here["trainer.random_seed"] = folder.about["seed"]
    return [
        Layer.from_mapping(f"scenario {scenario.name}", scenario.cls.defaults),
        Layer.from_mapping(saved.name, values),
        Layer.from_mapping("the run", here),
    ]


def _names(layer: Layer, place: Sequence[str]) -> bool:
    """Whether a layer chooses the component at a place, in its long or short form."""
    forms = {".".join(place), ".".join(place[1:])}
    inner: Any = layer.values
    for step in place:
        inner = inner.get(step) if isinstance(inner, Mapping) else None
    return inner is not None or any(option.name in forms for option in layer.options)


def _forget(values: dict[str, Any], place: Sequence[str]) -> None:
    for step in place[:-1]:
        values[step] = dict(values[step])
        values = values[step]
    values.pop(place[-1], None)


def _resume(
    resumption: Resumption, console: Console, cluster: Cluster | None, *, quiet: bool, json_log: Path | None
) -> TrainResult | None:
    from aipcore.training.checkpoint import find_newest, read_checkpoint

    folder, params = resumption.folder, resumption.resolved.value.trainer
    path, damaged = (folder.chosen, []) if folder.chosen is not None else find_newest(folder.checkpoints)
    stored = None if path is None else read_checkpoint(path)
    resumption.warnings.extend(
        f"The checkpoint {each.name} is damaged ({why}) and is set aside." for each, why in damaged
    )
    chief = cluster is None or cluster.index == 0
    done = "" if stored is None else _nothing_to_do(folder, stored, resumption)
    if done:
        if chief:
            console.print(done, markup=False, highlight=False, soft_wrap=True)
        return None
    from aipcore.training.logs import log_level
    from aipcore.training.start import import_tensorflow

    level = log_level()
    quiet = quiet or level > logging.INFO
    import_tensorflow(verbose=level <= logging.DEBUG)
    from aipcore.cli.console_reporter import ConsoleHandler, ConsoleReporter
    from aipcore.cli.json_reporter import JsonReporter
    from aipcore.devices.joining import joined_workers
    from aipcore.devices.selection import select_devices
    from aipcore.training.reporter import Reporter, Reporters

    select_devices(params.device)
    terminal = ConsoleReporter(console, quiet=quiet)
    events = None if json_log is None else JsonReporter(json_log)
    reporter: Reporter = terminal if events is None else Reporters(terminal, events)
    handler = ConsoleHandler(console, quiet=quiet or not chief)
    handler.setFormatter(logging.Formatter(f"{prefix(cluster)}%(message)s"))
    try:
        with joined_workers(
            params.device, cluster, tell_user(folder.path if chief else None, terminal.close)
        ) as workers:
            # The folder may have changed since a worker looked: all go by what the chief found.
            workers.require_same({"the checkpoint to resume from": None if path is None else path.name})
            return _run(resumption, path, stored, workers, reporter if chief else Reporter(), handler)
    finally:
        terminal.close()
        if events is not None:
            events.close()


def _run(
    resumption: Resumption,
    path: Path | None,
    stored: Checkpoint | None,
    workers: Workers,
    reporter: Reporter,
    handler: logging.Handler,
) -> TrainResult:
    from aipcore.training.event_trim import trim_events
    from aipcore.training.logs import logging_to
    from aipcore.training.resume import restore
    from aipcore.training.setup import about_run, make_parts, write_run_files
    from aipcore.training.trainer import Trainer

    folder, request, value = resumption.folder, resumption.request, resumption.resolved.value
    about = about_run(request.scenario, resumption.resolved, request.plugins)
    trainer = Trainer(
        request.scenario.cls(value),
        value,
        name=request.scenario.name,
        parts=make_parts(value.trainer, request.plugins),
        output_dir=folder.path if workers.is_chief else None,
        about={**about, "resumed": [*folder.about.get("resumed", []), _entry(path, resumption)]},
        reporter=reporter,
        workers=workers,
    )
    if workers.is_chief:
        recover_models(folder)
    if stored is not None:
        restore(trainer, stored, recompile=any(change.path in RECOMPILE for change in resumption.found))
        if _restarts(trainer.stopped, resumption):
            trainer.stopped = ""
    if not workers.is_chief:
        with logging_to(handler, None):
            return trainer.run()
    # From here on the folder changes; everything that could be wrong has been looked at.
    moved = set_aside(folder, path)
    warnings = [
        *resumption.warnings,
        *(f"{each.name} is newer than where the run goes on: it is in {each.parent} now." for each in moved),
    ]
    trim_events(folder.path / "tensorboard", trainer.epoch, int(trainer.optimizer.iterations.numpy()))
    write_run_files(folder.path, trainer.about)
    with logging_to(handler, folder.path / "train.log"):
        for warning in warnings:
            reporter.warning(warning)
        reporter.message(_begin(path, trainer.epoch, trainer.step, resumption.found))
        return trainer.run()


def _entry(path: Path | None, resumption: Resumption) -> dict[str, Any]:
    """What `run.json` remembers of this resumption; nothing goes by its time."""
    plain = {change.path: {"from": change.before, "to": change.after} for change in resumption.found}
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "aip": aipcore.__version__,
        "checkpoint": None if path is None else path.name,
        "overrides": plain,
    }


def _restarts(stopped: str, resumption: Resumption) -> bool:
    """Whether a run that stopped early goes on, since what stopped it has changed."""
    group = "trainer.early_stopping." if stopped.startswith("Early stopping") else "trainer.callbacks"
    return bool(stopped) and any(change.path.startswith(group) for change in resumption.found)


def _nothing_to_do(folder: RunFolder, stored: Checkpoint, resumption: Resumption) -> str:
    """Why there is nothing to do; empty if there is something."""
    params, epoch = resumption.resolved.value.trainer, stored.progress.get("epoch")
    stopped = str(stored.progress.get("stopped") or "")
    if stopped and not _restarts(stopped, resumption):
        why = f"The run stopped after epoch {epoch} ({stopped[:1].lower()}{stopped[1:]})"
        how = "to go on, change what stopped it, such as --early_stopping.n_to_go"
    elif isinstance(epoch, int) and epoch >= params.epochs:
        why = f"The run has finished its {epoch} epochs"
        how = f"to go on, give more, such as --trainer.epochs {2 * epoch}"
    else:
        return ""
    if params.export_final and exported_epoch(folder) != epoch:
        # Killed before its last step.
        return ""
    return f"{why}, so there is nothing to do; {how}."


def _begin(path: Path | None, epoch: int, step: int, found: Sequence[Change]) -> str:
    where = "from the beginning, since there is no checkpoint yet" if path is None else f"from {path}"
    place = "" if path is None else f", in epoch {epoch + 1} after {step} batches" if step else f", after epoch {epoch}"
    with_ = ", ".join(f"{change.path} {change.after}" for change in found)
    return f"Goes on {where}{place}{f', with {with_}' if with_ else ''}."
