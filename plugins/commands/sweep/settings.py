"""What a sweep is: kept as `sweep.json` in its folder, so that the sweep can go on after anything."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any, Literal, get_type_hints

import attrs

import aipcore
from aipcore.errors import UsageError
from aipcore.files import no_follow, read_json
from aipcore.params.declare import SECRET
from aipcore.params.secret import PREFIX, redacted
from aipcore.params.types import leaf_type

FILE = "sweep.json"
SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("median", "hyperband", "none")
STORAGE_VARIABLE = f"{PREFIX}STORAGE"
"""The environment variable that the address of the storage is taken from, if its password is not known."""


@attrs.frozen(kw_only=True)
class Settings:
    """A sweep.

    Attributes:
        scenario: the scenario as the user named it.
        params: the parameter file, or None.
        words: the parameters that do not vary, as on the command line.
        space: the values of `--space`.
        sampler, pruner: what Optuna chooses and prunes by.
        seed: what the choices are drawn from.
        monitor: the direction and the name of the value that is optimized.
        own_monitor: whether this is what the scenario monitors, which is the value of the validation if there is one.
        trials: how many there are in all, None for no end.
        storage: the address of the database, None for a file in the sweep's folder.
        study: the study's name in the database.
        switches: the options of `aip` itself that leave plugins out.
        cwd: the working folder, which relative paths refer to.
        recorded_words: `words` without secrets, which is what the file holds.
        home: tells this folder from others that share the study.
    """

    scenario: str
    params: str | None
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
    switches: tuple[str, ...]
    cwd: str
    recorded_words: tuple[str, ...] = ()
    home: str = attrs.field(factory=lambda: uuid.uuid4().hex)

    @property
    def train_words(self) -> list[str]:
        """The words after `aip train` that all trials have in common."""
        return self._after_train(self.words)

    @property
    def shown_words(self) -> list[str]:
        """`train_words` without secrets."""
        return self._after_train(self.recorded_words or self.words)

    def _after_train(self, words: tuple[str, ...]) -> list[str]:
        return [self.scenario, *(() if self.params is None else ("--params", self.params)), *words]


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
"""What a sweep keeps for all of its trials, and how users call it."""


def write_settings(folder: Path, settings: Settings) -> None:
    """Writes `sweep.json`, without a password."""
    plain = attrs.asdict(settings)
    plain["words"] = [redacted(word) for word in plain.pop("recorded_words") or settings.words]
    plain |= {"aip": aipcore.__version__, "storage": None if settings.storage is None else redacted(settings.storage)}
    fresh = folder / f".{FILE}.{os.getpid()}"
    fresh.unlink(missing_ok=True)
    with open(fresh, "x", encoding="utf-8", opener=no_follow) as file:
        file.write(json.dumps(plain, indent=2) + "\n")
    fresh.replace(folder / FILE)


def read_settings(folder: Path, storage: str | None) -> Settings:
    """Reads `sweep.json`.

    Args:
        folder: the sweep's folder.
        storage: the address of the database, if the user gives it anew.

    Raises:
        UsageError: there is none, it cannot be read, or the storage's password is not known.
    """
    path = folder / FILE
    if not path.is_file():
        raise UsageError(f"{folder} is no folder of a sweep (it has no {FILE}): give the folder of one.")
    try:
        plain: dict[str, Any] = read_json(path)
        plain.pop("aip", None)
        types = get_type_hints(Settings)
        plain = {name: leaf_type(types[name], name).from_plain(value) for name, value in plain.items()}
        withheld = any(SECRET in word for word in plain["words"])
        settings = Settings(**plain, recorded_words=plain["words"] if withheld else ())
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise UsageError(f"{path} cannot be read ({type(error).__name__}: {error}): restore it from a copy.") from error
    if storage is not None:
        settings = attrs.evolve(settings, storage=storage)
    if settings.storage is not None and SECRET in settings.storage:
        storage = os.environ.get(STORAGE_VARIABLE)
        if not storage:
            raise UsageError(
                f"The password of the sweep's storage is not kept: give --storage URL with it again, or set "
                f"{STORAGE_VARIABLE} to the URL."
            )
        settings = attrs.evolve(settings, storage=storage)
    return settings


def is_home(folder: Path, home: str) -> bool:
    """Return whether a folder is the one of this host that calls itself `home`."""
    try:
        return bool(read_json(folder / FILE)["home"] == home)
    except (OSError, ValueError, TypeError, KeyError):
        return False


def refuse_changes(found: Settings, given: Settings) -> None:
    """Sees that a command that goes on with a sweep means the same sweep.

    Raises:
        UsageError: it does not.
    """
    for name, called in FIXED.items():
        before, now = getattr(found, name), getattr(given, name)
        if before != now:
            raise UsageError(
                f"The folder's sweep has {called} {_said(before)} and this command {_said(now)}: give the same, or "
                "another --sweep_dir for another sweep."
            )


def _said(value: Any) -> str:
    return (" ".join(value) if isinstance(value, tuple) else str(value)) or "none"
