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

import aipcore
from aipcore.cli.completing import RunCommand, complete_words
from aipcore.cli.peers import find_cluster, prefix, tell_user
from aipcore.cli.request import HELP, PARAMS, CommandOption, Request, split_arguments
from aipcore.cli.scenario_help import show_help, show_options
from aipcore.cli.train import JSON_LOG, QUIET
from aipcore.console import Console
from aipcore.errors import PluginError, UsageError
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Layer, Resolved, fill, to_dict
from aipcore.params.places import places, places_layer
from aipcore.params.resolve import make
from aipcore.params.resources import localized, planned_copies
from aipcore.params.secret import contacts, refuse_contacts
from aipcore.params.tree import short_paths, shown
from aipcore.scenario.loader import LoadedScenario
from aipcore.scenario.recorded import moved_scenario, recorded_scenario, recorded_working_dir
from aipcore.training.overrides import RECOMPILE, Change, changes, refuse_impossible
from aipcore.training.params import run_params_class
from aipcore.training.run_components import compare_plugins, missing_component
from aipcore.training.run_folder import RunFolder, exported_epoch, find_run, locked, recover_models, set_aside

if TYPE_CHECKING:
    from aipcore.devices.cluster import Cluster
    from aipcore.devices.workers import Workers
    from aipcore.logs import RunLog
    from aipcore.training.checkpoint import Checkpoint
    from aipcore.training.reporter import Reporter, TrainResult

SUMMARY = "Go on with a run from its newest checkpoint."
TRUST = CommandOption(
    ("--trust",),
    "Run the code of the file or module that the folder names as its scenario, and contact the addresses that it "
    "names; look at them first.",
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


class _Resume(RunCommand):
    own_options = OPTIONS


@click.command(
    "resume",
    cls=_Resume,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, shell_complete=complete_words)
def command(words: tuple[str, ...]) -> None:
    """Go on with a run from its newest checkpoint."""
    result = resume(words)
    if result is not None and result.signal is not None:
        sys.exit(128 + result.signal)


def resume(words: Sequence[str], listener: Reporter | None = None) -> TrainResult | None:
    """What `aip resume` does.

    Args:
        words: those after the command's name.
        listener: hears of the run too, beside the terminal.

    Returns:
        how the run ended, or None if there was nothing to do, or only help was asked for.
    """
    arguments = split_arguments(words, OPTIONS, "resume", first="DIR")
    console = Console()
    if arguments.scenario is None:
        if "--help" not in arguments.options:
            raise UsageError("Name the folder of a run: aip resume DIR; aip resume --help shows more.")
        console.print(f"Usage: [bold]aip resume DIR \\[OPTIONS] \\[PARAMETERS][/bold]\n\n{SUMMARY}\n")
        show_options(console, OPTIONS)
        console.print("\nDIR is the output folder of a run, its checkpoint folder, or one checkpoint in that.")
        console.print("All parameters of a run: [bold]aip resume DIR --help[/bold]")
        return None
    folder = find_run(Path(arguments.scenario))
    plugins = get_plugin_manager()
    warnings, missing = compare_plugins(folder.about, plugins)
    scenario = recorded_scenario(folder.about, plugins, trust="--trust" in arguments.options, where=folder.path)
    file = arguments.options.get("--params")
    given = [*([] if file is None else [Layer.from_file(Path(file))]), Layer.from_arguments(arguments.rest)]
    root = run_params_class(scenario.cls.params_class)
    base = _saved_layers(folder, scenario, missing, given)
    found_places = places(fill(root, [*base, *given], plugins), recorded_working_dir(folder.about), (base[1].name,))
    base.append(places_layer(base[1].name, found_places))
    warnings.extend([moved] if (moved := moved_scenario(folder.about, scenario)) else [])
    warnings.extend(sentence for place in found_places for sentence in place.sentences)
    request = Request(scenario=scenario, root=root, layers=[*base, *given], plugins=plugins)
    if "--help" in arguments.options:
        show_help(console, request, "resume", OPTIONS)
        return None
    tree = request.resolved().tree
    named = contacts(tree, short_paths(tree), (base[1].name,))
    if "--trust" not in arguments.options:
        refuse_contacts(named, folder.params_file)
    warnings.extend(
        f"{each.address} is contacted, which {folder.params_file} names (--{each.option})." for each in named
    )
    resolved = request.checked()
    before = make(fill(root, base, plugins))
    found = changes(to_dict(before, plugins), to_dict(resolved.value, plugins))
    shorts = short_paths(resolved.tree)
    refuse_impossible(found, lambda path: shown(tuple(path.split(".")), shorts))
    resumption = Resumption(folder=folder, request=request, resolved=resolved, found=found, warnings=warnings)
    json_log = arguments.options.get("--json-log")
    cluster = find_cluster(resolved.value.trainer.device)
    chief = cluster is None or cluster.index == 0
    with locked(folder.path) if chief else nullcontext():
        return _resume(
            resumption,
            console,
            cluster,
            quiet="--quiet" in arguments.options,
            json_log=None if json_log is None or not chief else Path(json_log),
            listener=listener,
        )


def _saved_layers(
    folder: RunFolder, scenario: LoadedScenario, missing: Sequence[tuple[str, str]], given: Sequence[Layer]
) -> list[Layer]:
    """The run's parameters as they were, in its place as it is now."""
    saved = Layer.from_file(folder.params_file)
    values = localized(saved.values, folder.about.get("resources") or {}, folder.path)
    for kind, name in missing:
        place = PLACES[kind]
        if not any(_names(layer, place) for layer in given):
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
    """Whether a layer chooses the component at a place, in its long or short form."""
    forms = {".".join(place), ".".join(place[1:])}
    inner: Any = layer.values
    for step in place:
        inner = inner.get(step) if isinstance(inner, Mapping) else None
    return inner is not None or any(option.name in forms for option in layer.options)


def _forget(values: dict[str, Any], place: Sequence[str]) -> None:
    for step in place[:-1]:
        if not isinstance(values.get(step), Mapping):
            return
        values[step] = dict(values[step])
        values = values[step]
    values.pop(place[-1], None)


def _resume(
    resumption: Resumption,
    console: Console,
    cluster: Cluster | None,
    *,
    quiet: bool,
    json_log: Path | None,
    listener: Reporter | None,
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
    from aipcore.logs import log_level, logging_to
    from aipcore.training.start import import_tensorflow

    level = log_level()
    quiet = quiet or level > logging.INFO
    import_tensorflow(verbose=level <= logging.DEBUG)
    from aipcore.cli.json_reporter import JsonReporter
    from aipcore.devices.joining import joined_workers
    from aipcore.devices.selection import select_devices
    from aipcore.training.console_reporter import ConsoleHandler, ConsoleReporter
    from aipcore.training.reporter import Reporter as Silent
    from aipcore.training.reporter import Reporters

    select_devices(params.device)
    terminal = ConsoleReporter(console, quiet=quiet)
    events = None if json_log is None else JsonReporter(json_log)
    reporter = Reporters(*filter(None, (terminal, events, listener)))
    handler = ConsoleHandler(console, quiet=quiet or not chief)
    handler.setFormatter(logging.Formatter(f"{prefix(cluster)}%(message)s"))
    try:
        with (
            logging_to(handler, file_follows=chief) as log,
            joined_workers(
                params.device, cluster, tell_user(folder.path if chief else None, terminal.close)
            ) as workers,
        ):
            # The folder may have changed since a worker looked: all go by what the chief found.
            workers.require_same({"the checkpoint to resume from": None if path is None else path.name})
            return _run(resumption, path, stored, workers, reporter if chief else Silent(), log)
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
    log: RunLog,
) -> TrainResult:
    from aipcore.training.event_trim import trim_events
    from aipcore.training.run_state import restore
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
        return trainer.run()
    # From here on the folder changes; everything that could be wrong has been looked at.
    moved = set_aside(folder, path)
    warnings = [
        *resumption.warnings,
        *(f"{each.name} is newer than where the run goes on: it is in {each.parent} now." for each in moved),
    ]
    trim_events(folder.path / "tensorboard", trainer.epoch, int(trainer.optimizer.iterations.numpy()))
    _, resources = planned_copies(value, request.plugins)
    write_run_files(folder.path, trainer.about, resources)
    log.write_to(folder.path / "train.log")
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
