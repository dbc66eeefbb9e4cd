"""What a command line or a folder says of a sweep: read, checked, and given its folder; computes nothing."""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import click
from aip_plugins.commands.sweep.locks import ASKING, enter_when_free
from aip_plugins.commands.sweep.options import PRUNER, SAMPLER, SEED, TRIALS, monitored, one_among, whole_number
from aip_plugins.commands.sweep.search import Space, make_space, recorded_words
from aip_plugins.commands.sweep.settings import (
    FILE,
    PRUNERS,
    SAMPLERS,
    STORAGE_VARIABLE,
    Settings,
    read_settings,
    refuse_changes,
    write_settings,
)
from aip_plugins.commands.sweep.space import FORMS

from aipcore.cli.request import Arguments, make_request
from aipcore.errors import AipError, UsageError
from aipcore.files import refuse_links
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Resolved
from aipcore.params.names import count
from aipcore.params.secret import Contact, redacted, refuse_contacts
from aipcore.training.run_folder import choose_output_dir

DEFAULT_TRIALS = 20
BESIDE_RESUME = ("--trials", "--timeout", "--storage", "--trust", "--quiet")


@attrs.define(kw_only=True)
class Begun:
    """A sweep that can begin, or go on.

    Attributes:
        settings: what it is.
        space: its parameters.
        epochs: the most that one of its trials has, as far as is known.
        folder: its folder, None for a new one.
        name: the scenario's name, which a new folder is called by.
    """

    settings: Settings
    space: Space
    epochs: int
    folder: Path | None
    name: str

    def claim(self) -> Path:
        """Makes the folder, or finds that it holds this very sweep, whose settings are then taken.

        Raises:
            UsageError: it holds something else, or cannot be written.
        """
        folder = self._make_folder()
        with ExitStack() as claiming:
            enter_when_free(claiming, folder, ASKING)
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
                raise UsageError(f"--sweep_dir {folder} holds something else than a sweep: give another folder.")
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
                raise UsageError(f"{folder} cannot be made ({error.strerror}): give another --sweep_dir.") from error
            return folder

    def plan(self) -> str:
        """What is going to happen, in a few words."""
        settings = self.settings
        many = "trials without end" if settings.trials is None else count(settings.trials, "trial")
        names = ", ".join(each.text for each in self.space.dimensions)
        mode, name = settings.monitor
        goal = "smallest" if mode == "min" else "largest"
        return (
            f"{many} of {settings.scenario} for the {goal} {name}, over {names} (sampler {settings.sampler}, pruner "
            f"{settings.pruner}, seed {settings.seed})"
        )

    def again(self, folder: Path) -> str:
        """The command that goes on with the sweep."""
        plugin = get_plugin_manager().find_scenario(self.settings.scenario) is not None
        trusted = plugin and self.settings.storage is None
        return f"aip sweep --resume {shlex.quote(str(folder))}{'' if trusted else ' --trust'}"


def from_command_line(arguments: Arguments, texts: Sequence[str]) -> Begun:
    """The sweep that a command line describes.

    Raises:
        UsageError: something in it is not allowed.
    """
    given = arguments.options
    sampler, pruner = one_among(given, SAMPLER, SAMPLERS), one_among(given, PRUNER, PRUNERS)
    trials, seed = whole_number(given, TRIALS, 1), whole_number(given, SEED, 0)
    if ("--storage" in given) != ("--study" in given):
        raise UsageError("--storage URL and --study NAME belong together: give both, the same on all machines.")
    if "--trust" in given:
        raise UsageError("--trust goes with --resume DIR only: a scenario that you name is yours to trust.")
    request = make_request(arguments, "sweep")
    if not texts:
        raise UsageError(f"Name the parameters that vary: --space {FORMS}.")
    space = make_space(texts, request, arguments.rest)
    resolved = _checked(space)
    monitor = monitored(given, request.scenario.cls(resolved.value).monitor)
    if monitor is None:
        raise UsageError(f"The scenario {request.scenario.name} monitors nothing: give --monitor min:NAME or max:NAME.")
    if trials is None:
        trials = None if "--timeout" in given or sampler == "grid" else DEFAULT_TRIALS
    params = given.get("--params")
    settings = Settings(
        scenario=arguments.scenario or "",
        params=params,
        words=tuple(arguments.rest),
        recorded_words=recorded_words(request, arguments.rest),
        space=tuple(texts),
        sampler=sampler,
        pruner=pruner,
        seed=secrets.randbelow(2**31) if seed is None else seed,
        monitor=monitor,
        own_monitor="--monitor" not in given,
        trials=trials,
        storage=given.get("--storage"),
        study=given.get("--study", ""),
        switches=_switches(),
        cwd=str(Path.cwd()),
    )
    folder = None if "--sweep_dir" not in given else Path(given["--sweep_dir"])
    return _begun(settings, space, resolved, folder)


def from_folder(arguments: Arguments, texts: Sequence[str]) -> Begun:
    """The sweep that a folder holds, to go on with; enters the working folder that it was begun in.

    Raises:
        UsageError: it holds none, or the command line says something else too.
    """
    given = arguments.options
    others = [*([arguments.scenario] if arguments.scenario else []), *arguments.rest, *texts]
    others += [name for name in given if name not in ("--resume", *BESIDE_RESUME)]
    if others:
        raise UsageError(
            f"--resume takes the sweep from its folder, so leave out {others[0]}; only {', '.join(BESIDE_RESUME)} may "
            "stand beside it."
        )
    folder = Path(given["--resume"]).resolve()
    if folder.is_dir():
        refuse_links(folder)
    settings = read_settings(folder, given.get("--storage"))
    if get_plugin_manager().find_scenario(settings.scenario) is None and "--trust" not in given:
        raise UsageError(
            f"The sweep's scenario is {settings.scenario}, which is no plugin, and to go on with it runs that code: "
            "look at it, and add --trust."
        )
    if "--trust" not in given:
        _refuse_storage(settings, given, folder)
    trials = whole_number(given, TRIALS, 1)
    settings = attrs.evolve(settings, switches=_switches(), trials=trials or settings.trials)
    try:
        os.chdir(settings.cwd)
    except OSError as error:
        raise UsageError(
            f"The sweep was begun in {settings.cwd}, which cannot be entered ({error.strerror}): bring it back."
        ) from error
    options = {} if settings.params is None else {"--params": settings.params}
    request = make_request(Arguments(scenario=settings.scenario, options=options, rest=list(settings.words)), "sweep")
    space = make_space(settings.space, request, settings.words)
    if "--trust" not in given:
        refuse_contacts(space.contacts(), folder / FILE)
    return _begun(settings, space, _checked(space), folder)


def _refuse_storage(settings: Settings, given: Mapping[str, str], folder: Path) -> None:
    """Refuse a storage that the folder names, and neither the command line nor the environment.

    Raises:
        UsageError: it names one.
    """
    if settings.storage not in (None, given.get("--storage"), os.environ.get(STORAGE_VARIABLE)):
        refuse_contacts([Contact("storage", redacted(str(settings.storage)))], folder / FILE)


def _begun(settings: Settings, space: Space, resolved: Resolved[Any], folder: Path | None) -> Begun:
    trainer = resolved.value.trainer
    if trainer.output_dir is not None or any(each.name == "trainer.output_dir" for each in space.dimensions):
        raise UsageError("Each trial has its own --trainer.output_dir: give --sweep_dir, which holds them all.")
    if trainer.device.strategy == "multi_worker":
        raise UsageError(
            "A trial trains on one host: leave out --device.strategy multi_worker, and have the hosts share the trials "
            "by --storage URL."
        )
    return Begun(settings=settings, space=space, epochs=trainer.epochs, folder=folder, name=space.request.scenario.name)


def _checked(space: Space) -> Resolved[Any]:
    """The parameters of a trial, as the scenario completes them.

    Raises:
        AipError: the scenario refuses both the first and the last values of all that varies.
    """
    for last in (False, True):
        chosen = space.walk(lambda each, last=last: each.ends[-1 if last else 0])  # type: ignore[misc]
        try:
            return space.with_chosen(chosen).checked()
        except AipError:
            # The scenario may allow only some combinations: then trials of others fail, and say why.
            if last:
                raise
    raise AssertionError


def _switches() -> tuple[str, ...]:
    """The options of `aip` itself that leave plugins out, which the processes of the trials need too."""
    given = click.get_current_context().find_root().params
    return (*(f"no:{name}" for name in given["disabled"]), *(["--no-plugins"] if given["no_plugins"] else []))
