"""The sweep's folder: `sweep.json` to resume the sweep, and locks between processes."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, get_type_hints

import attrs

import aipcore
from aipcore.errors import UsageError
from aipcore.files import no_follow, read_json
from aipcore.params.declare import SECRET
from aipcore.params.secret import PREFIX, redacted
from aipcore.params.types import leaf_type
from aipcore.training.run_folder import LOCK, locked

FILE = "sweep.json"
STORAGE_VARIABLE = f"{PREFIX}STORAGE"
"""The environment variable with the address of the storage, used if its password is unknown."""

SETTINGS_LOCK = ".asking.lock"
"""Lock in the sweep's folder, held while a process starts the sweep."""

TABLES_LOCK = ".tables.lock"
"""Lock in the sweep's folder, held while a process reads the trials and writes the tables."""

TRIAL_LOCK = ".trial.lock"
"""Lock in a trial's folder, held by the process that runs the trial; the trial's own process holds `.lock`."""

PATIENCE = 300.0
"""Seconds to wait for a lock, such as that of a trial that still saves after its sweep was killed."""


@attrs.frozen(kw_only=True)
class Settings:
    """The settings of a sweep.

    Attributes:
        scenario: the user's name of the scenario.
        params: the parameter files.
        words: the fixed parameters, as on the command line.
        space: the values of `--space`.
        sampler, pruner: the names of Optuna's sampler and pruner.
        seed: the seed of the sampler.
        monitor: the direction and the name of the value to optimize.
        own_monitor: True if this is the scenario's monitor, which stands for the validation value if there is one.
        trials: the total number of trials; None for no limit.
        storage: the address of the database, None for a file in the sweep's folder.
        study: the study's name in the database.
        cwd: the working folder, to which relative paths refer.
        plugins: the plugin files, as absolute paths.
        recorded_words: `words` without secrets, as in the file.
        home: distinguishes this folder from others that share the study.
    """

    scenario: str
    params: tuple[str, ...]
    words: tuple[str, ...]
    space: tuple[str, ...]
    sampler: str
    pruner: str
    seed: int
    monitor: tuple[Literal["min", "max"], str]
    own_monitor: bool
    trials: int | None
    storage: str | None
    study: str
    cwd: str
    plugins: tuple[str, ...] = ()
    recorded_words: tuple[str, ...] = attrs.field(default=attrs.Factory(lambda self: self.words, takes_self=True))
    home: str = attrs.field(factory=lambda: uuid.uuid4().hex)

    def train_words(self, *, recorded: bool = False) -> list[str]:
        """Return the words after `aip train` shared by all trials.

        Args:
            recorded: True to leave out secrets.
        """
        words = self.recorded_words if recorded else self.words
        return [self.scenario, *(word for file in self.params for word in ("--params", file)), *words]

    @property
    def place(self) -> str:
        """The address of the database, without a login."""
        if self.storage is None:
            return "study.db in the sweep's folder"
        return redacted(self.storage.partition("@")[2] or self.storage)


FIXED = {
    "scenario": "SCENARIO",
    "params": "--params",
    "words": "the parameters",
    "space": "--space",
    "sampler": "--sampler",
    "pruner": "--pruner",
    "monitor": "--monitor",
    "study": "--study",
}
"""The settings shared by all trials of a sweep, with their names for users."""


def write_settings(folder: Path, settings: Settings) -> None:
    """Write `sweep.json`, without passwords."""
    plain = attrs.asdict(settings)
    plain["words"] = plain.pop("recorded_words")
    plain |= {"aip": aipcore.__version__, "storage": None if settings.storage is None else redacted(settings.storage)}
    write_whole(folder / FILE, json.dumps(plain, indent=2) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file of the sweep's folder atomically."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    with open(fresh, "x", encoding="utf-8", newline="", opener=no_follow) as file:
        file.write(text)
    fresh.replace(path)


def read_settings(folder: Path, storage: str | None) -> Settings:
    """Read `sweep.json`.

    Args:
        folder: the sweep's folder.
        storage: the address of the database if given again, or None.

    Raises:
        UsageError: the file is missing or unreadable, or the password of the storage is unknown.
    """
    path = folder / FILE
    if not path.is_file():
        raise UsageError(f"{folder} is not the folder of a sweep: {FILE} is missing. Pass the folder of a sweep.")
    try:
        plain: dict[str, Any] = read_json(path)
        plain.pop("aip", None)
        if isinstance(plain["params"], str | None):
            # Earlier versions read one file.
            plain["params"] = [] if plain["params"] is None else [plain["params"]]
        types = get_type_hints(Settings)
        plain = {name: leaf_type(types[name], name).from_plain(value) for name, value in plain.items()}
        settings = Settings(**plain)
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise UsageError(f"{path} cannot be read ({type(error).__name__}: {error}). Restore it from a copy.") from error
    if storage is None and settings.storage is not None and SECRET in settings.storage:
        storage = os.environ.get(STORAGE_VARIABLE)
        if not storage:
            raise UsageError(
                f"The password of the sweep's storage is not recorded. Pass --storage URL with the password, or set "
                f"{STORAGE_VARIABLE} to the URL."
            )
    return settings if storage is None else attrs.evolve(settings, storage=storage)


def is_home(folder: Path, home: str) -> bool:
    """Return True if a folder is the one on this host with the given `home`."""
    try:
        return bool(read_json(folder / FILE)["home"] == home)
    except (OSError, ValueError, TypeError, KeyError):
        return False


def refuse_changes(found: Settings, given: Settings) -> None:
    """Check that a command that resumes a sweep describes the same sweep.

    Raises:
        UsageError: the sweeps differ.
    """
    for name, called in FIXED.items():
        values = getattr(found, name), getattr(given, name)
        if values[0] != values[1]:
            before, now = ((" ".join(each) if isinstance(each, tuple) else str(each)) or "none" for each in values)
            raise UsageError(
                f"The folder's sweep has {called} {before}, but this command has {now}. Use the same, or another "
                "--sweep_dir for a new sweep."
            )


@contextmanager
def lock_when_free(folder: Path, name: str = LOCK) -> Iterator[None]:
    """Hold a lock, after waiting for its holder. A process releases its locks when it ends.

    Raises:
        UsageError: the lock is not free after five minutes, or the folder is not writable.
    """
    end = time.monotonic() + PATIENCE
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(locked(folder, name))
                break
            except UsageError:
                if time.monotonic() > end or not os.access(folder, os.W_OK):
                    raise
                time.sleep(0.1)
        yield
