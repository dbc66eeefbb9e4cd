"""A request for a sweep, read from a command line or a folder and checked, without any computation."""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
from aip_plugins.commands.sweep.dimension import FORMS
from aip_plugins.commands.sweep.settings import (
    FILE,
    SETTINGS_LOCK,
    STORAGE_VARIABLE,
    Settings,
    lock_when_free,
    read_settings,
    refuse_changes,
    write_settings,
)
from aip_plugins.commands.sweep.space import Space, make_space

from aipcore.cli.request import Arguments, make_request
from aipcore.errors import AipError, UsageError
from aipcore.files import refuse_links
from aipcore.hooks.discovery import PluginFile
from aipcore.hooks.manager import configure_plugins, get_plugin_manager
from aipcore.params import Resolved
from aipcore.params.names import count
from aipcore.params.secret import Contact, redacted, refuse_contacts
from aipcore.training.monitor import chosen_monitor
from aipcore.training.run_folder import choose_output_dir

DEFAULT_TRIALS = 20
BESIDE_RESUME = ("--trials", "--timeout", "--storage", "--trust", "--quiet")
"""The options allowed with `--resume`."""


@attrs.define(kw_only=True)
class SweepRequest:
    """A sweep to start or resume.

    Attributes:
        settings: the settings of the sweep.
        space: the search space.
        epochs: the most epochs of a trial, as far as known.
        folder: the folder of the sweep; None for a new one.
        name: the scenario's name, used to name a new folder.
    """

    settings: Settings
    space: Space
    epochs: int
    folder: Path | None
    name: str

    def claim(self) -> Path:
        """Create the folder. A folder of the same sweep supplies the settings that no option sets.

        Raises:
            UsageError: the folder contains something else, or is not writable.
        """
        folder = self._make_folder()
        with lock_when_free(folder, SETTINGS_LOCK):
            if (folder / FILE).exists():
                refuse_links(folder)
                found = read_settings(folder, self.settings.storage)
                given = attrs.evolve(
                    self.settings, study=self.settings.study or found.study, words=self.settings.recorded_words
                )
                refuse_changes(found, given)
                self.settings = attrs.evolve(
                    self.settings, home=found.home, seed=found.seed, study=found.study, storage=found.storage
                )
            elif any(not path.name.startswith(".") for path in folder.iterdir()):
                raise UsageError(
                    f"--sweep_dir {folder} is neither empty nor the folder of a sweep. Choose another folder."
                )
            elif not self.settings.study:
                self.settings = attrs.evolve(self.settings, study=folder.resolve().name)
            write_settings(folder, self.settings)
        return folder

    def _make_folder(self) -> Path:
        while True:
            folder = self.folder or choose_output_dir(None, f"{self.name}-sweep")
            try:
                folder.mkdir(parents=True, exist_ok=self.folder is not None)
            except OSError as error:
                if self.folder is None and isinstance(error, FileExistsError):
                    continue  # Another sweep has just taken this number.
                raise UsageError(
                    f"{folder} cannot be created ({error.strerror}). Choose another --sweep_dir."
                ) from error
            return folder

    def plan(self) -> str:
        """Return the plan in a few words."""
        settings = self.settings
        many = "trials without a limit" if settings.trials is None else count(settings.trials, "trial")
        names = ", ".join(each.text for each in self.space.dimensions)
        mode, name = settings.monitor
        return (
            f"{many} of {settings.scenario} for the {'lowest' if mode == 'min' else 'highest'} {name}, over {names} "
            f"(sampler {settings.sampler}, pruner {settings.pruner}, seed {settings.seed})"
        )

    def again(self, folder: Path) -> str:
        """Return the command that resumes the sweep."""
        trusted = _is_plugin(self.settings) and self.settings.storage is None and not self.settings.plugins
        return f"aip sweep --resume {shlex.quote(str(folder))}{'' if trusted else ' --trust'}"


def from_command_line(arguments: Arguments) -> SweepRequest:
    """Return the sweep of a command line.

    Raises:
        UsageError: an option or a parameter is invalid.
    """
    given = arguments.options
    if ("--storage" in given) != ("--study" in given):
        raise UsageError(
            "--storage URL and --study NAME belong together. Pass both, with equal values on all machines."
        )
    if "--trust" in given:
        raise UsageError("--trust needs --resume DIR. A scenario on the command line is always trusted.")
    request = make_request(arguments, "sweep")
    texts = given.get("--space")
    if texts is None:
        raise UsageError(f"There are no hyperparameters to search. Add --space {FORMS}.")
    space = make_space(texts, request, arguments.rest)
    resolved = _resolved(space)
    sampler = given.get("--sampler", "tpe")
    endless = "--timeout" in given or sampler == "grid"
    settings = Settings(
        scenario=arguments.scenario or "",
        params=tuple(given.get("--params", ())),
        words=tuple(arguments.rest),
        recorded_words=space.recorded_words(),
        space=tuple(texts),
        sampler=sampler,
        pruner=given.get("--pruner", "median"),
        seed=given.get("--seed", secrets.randbelow(2**31)),
        monitor=_monitor(given.get("--monitor"), request.scenario.cls.monitor, resolved.value.trainer.monitor),
        own_monitor="--monitor" not in given,
        trials=given.get("--trials", None if endless else DEFAULT_TRIALS),
        storage=given.get("--storage"),
        study=given.get("--study", ""),
        cwd=str(Path.cwd()),
        plugins=tuple(str(file.path) for file in get_plugin_manager().switches.files if not file.reason),
    )
    folder = given.get("--sweep_dir")
    return _request(settings, space, resolved, None if folder is None else Path(folder))


def from_folder(given: Mapping[str, Any]) -> SweepRequest:
    """Return the sweep in the folder of `--resume`, and enter its original working folder.

    Args:
        given: the options of the command line.

    Raises:
        UsageError: the folder has no sweep, or needs `--trust`.
    """
    folder = Path(given["--resume"]).resolve()
    if folder.is_dir():
        refuse_links(folder)
    settings = read_settings(folder, given.get("--storage"))
    trust = "--trust" in given
    if not trust and not _is_plugin(settings):
        raise UsageError(
            f"The sweep uses the scenario {settings.scenario}, and resuming it runs its code. If you trust that code, "
            "add --trust."
        )
    if not trust and settings.storage not in (None, given.get("--storage"), os.environ.get(STORAGE_VARIABLE)):
        refuse_contacts([Contact("storage", redacted(str(settings.storage)))], folder / FILE)
    settings = attrs.evolve(settings, trials=given.get("--trials", settings.trials))
    try:
        os.chdir(settings.cwd)
    except OSError as error:
        raise UsageError(
            f"The sweep was started in {settings.cwd}, which cannot be entered ({error.strerror}). Restore the folder."
        ) from error
    _load_files(settings, folder, trust=trust)
    options = {"--params": list(settings.params)} if settings.params else {}
    request = make_request(Arguments(scenario=settings.scenario, options=options, rest=list(settings.words)), "sweep")
    space = make_space(settings.space, request, settings.words)
    if not trust:
        refuse_contacts(space.contacts(), folder / FILE)
    return _request(settings, space, _resolved(space), folder)


def _load_files(settings: Settings, folder: Path, *, trust: bool) -> None:
    """Load the plugin files of a sweep that are not loaded yet.

    Raises:
        UsageError: one is missing, or the folder is not trusted.
    """
    switches = get_plugin_manager().switches
    known = [file.path for file in switches.files if not file.reason]
    files = [Path(path) for path in settings.plugins if Path(path) not in known]
    for path in files:
        if not trust:
            raise UsageError(
                f"{folder / FILE} names the plugin file {path}, and loading it runs its code. If you trust that code, "
                "add --trust, or name the file with -p FILE."
            )
        if not path.is_file():
            raise UsageError(f"{folder / FILE} names the plugin file {path}, which is missing. Restore it.")
    if files:
        configure_plugins(attrs.evolve(switches, files=(*(PluginFile(path=path) for path in files), *switches.files)))


def _is_plugin(settings: Settings) -> bool:
    return get_plugin_manager().find_scenario(settings.scenario) is not None


def _request(settings: Settings, space: Space, resolved: Resolved[Any], folder: Path | None) -> SweepRequest:
    trainer = resolved.value.trainer
    if trainer.output_dir is not None or any(each.name == "trainer.output_dir" for each in space.dimensions):
        raise UsageError("Each trial has its own --trainer.output_dir. Use --sweep_dir, the folder of all trials.")
    if trainer.folds is not None or any(each.name == "trainer.folds" for each in space.dimensions):
        raise UsageError("A trial is one run, not a cross-validation. Leave out --trainer.folds.")
    if trainer.device.strategy == "multi_worker":
        raise UsageError(
            "A trial trains on one host. Leave out --device.strategy multi_worker. To share the trials between hosts, "
            "pass --storage URL."
        )
    if trainer.epochs is None:
        raise UsageError("A sweep compares trials by epoch. Give --trainer.epochs, also with --trainer.max_steps.")
    name = space.request.scenario.name
    return SweepRequest(settings=settings, space=space, epochs=trainer.epochs, folder=folder, name=name)


def _resolved(space: Space) -> Resolved[Any]:
    """Return the parameters of a trial, as completed by the scenario.

    Raises:
        AipError: the scenario rejects both the first and the last values of all dimensions.
    """
    try:
        return space.with_chosen(space.walk(lambda each: each.ends[0])).checked()
    except AipError:
        # The scenario may allow only some combinations. Trials of the others fail with the reason.
        return space.with_chosen(space.walk(lambda each: each.ends[-1])).checked()


def _monitor(given: str | None, own: Any, option: str | None) -> tuple[Literal["min", "max"], str]:
    """Return the direction and the name of the value to optimize.

    Args:
        given: the value of `--monitor`.
        own: the scenario's `monitor`, which is the default.
        option: the value of `--trainer.monitor`, which precedes the scenario's.

    Raises:
        UsageError: there is no such value, or the options contradict each other.
    """
    known = chosen_monitor(option, own)
    pair = isinstance(known, tuple) and len(known) == 2
    mode, name = given.partition(":")[::2] if given is not None else known if pair else ("", "")
    if mode not in ("min", "max") or not name or not isinstance(name, str):
        if given is None:
            raise UsageError("The scenario has no monitor. Pass --monitor min:NAME or max:NAME.")
        raise UsageError(f"--monitor {given} is not allowed. Write min:NAME or max:NAME, such as min:val_loss.")
    if option is not None and known[1].removeprefix("val_") == name.removeprefix("val_") and known[0] != mode:
        raise UsageError(f"--monitor {given} and --trainer.monitor {option} contradict each other. Give one of them.")
    return mode, name
