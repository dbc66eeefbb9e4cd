"""The options of `aip sweep` itself, and their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from aip_plugins.commands.sweep.settings import PRUNERS, SAMPLERS
from aip_plugins.commands.sweep.space import FORMS

from aipcore.cli.request import HELP, PARAMS, CommandOption
from aipcore.errors import UsageError
from aipcore.params.names import nearest, one_of

SPACE = CommandOption(("--space",), f"The parameters that vary: {FORMS}; several may follow.", "SPACE ...")
TRIALS = CommandOption(
    ("--trials",),
    "How many trials the sweep has in all, failed ones included: 20 by default, without end if there is a --timeout, "
    "all points of a grid.",
    "N",
)
TIMEOUT = CommandOption(("--timeout",), "Seconds after which no further trial begins.", "S")
SAMPLER = CommandOption(("--sampler",), f"What chooses the values: {one_of(SAMPLERS)}; tpe by default.", "NAME")
PRUNER = CommandOption(
    ("--pruner",), f"What ends trials that fall behind: {one_of(PRUNERS)}; median by default.", "NAME"
)
SEED = CommandOption(("--seed",), "What the choices are drawn from; by default drawn itself.", "N")
MONITOR = CommandOption(
    ("--monitor",),
    "The value to optimize, with its direction: min:val_loss; by default what the scenario monitors.",
    "min|max:NAME",
)
SWEEP_DIR = CommandOption(
    ("--sweep_dir", "--sweep-dir"),
    "The sweep's folder, by default runs/SCENARIO-sweep-N; if it holds this sweep already, that goes on.",
    "DIR",
)
RESUME = CommandOption(("--resume",), "Go on with the sweep of a folder as it was begun; instead of SCENARIO.", "DIR")
TRUST = CommandOption(
    ("--trust",),
    "With --resume: run the code of the file or module that the folder names as its scenario, and contact the "
    "addresses that it names.",
)
QUIET = CommandOption(("--quiet", "-q"), "Print the result only.")
STORAGE = CommandOption(
    ("--storage",), "The database, which several machines may share, as SQLAlchemy writes it; needs --study.", "URL"
)
STUDY = CommandOption(("--study",), "The study's name in the database, the same on all machines.", "NAME")
OPTIONS = (
    HELP, SPACE, TRIALS, TIMEOUT, SAMPLER, PRUNER, SEED, MONITOR, PARAMS, SWEEP_DIR, RESUME, TRUST, STORAGE,
    STUDY, QUIET,
)  # fmt: skip


def take_space(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separates the values of `--space`, which may be several and come several times, from the other words.

    Raises:
        UsageError: an option has none.
    """
    texts: list[str] = []
    rest: list[str] = []
    words = list(words)
    while words:
        word = words.pop(0)
        if word == "--space":
            if not words or words[0].startswith("--"):
                raise UsageError(f"--space needs a value: write {FORMS}.")
            while words and not words[0].startswith("-"):
                texts.append(words.pop(0))
        elif word.startswith("--space="):
            texts.append(word.removeprefix("--space="))
        else:
            rest.append(word)
    return texts, rest


def whole_number(given: Mapping[str, str], option: CommandOption, low: int) -> int | None:
    """The value of an option that takes a whole number, None if it is not given.

    Raises:
        UsageError: it is no such number.
    """
    name = option.names[0]
    word = given.get(name)
    if word is None:
        return None
    try:
        value = int(word)
    except ValueError:
        value = low - 1
    if value < low:
        raise UsageError(f"{name}: {word} is not allowed, it must be a whole number, at least {low}.")
    return value


def seconds(given: Mapping[str, str]) -> float | None:
    """The time limit.

    Raises:
        UsageError: it is no number above 0.
    """
    word = given.get("--timeout")
    if word is None:
        return None
    try:
        value = float(word)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UsageError(f"--timeout: {word} is not allowed, it must be a number of seconds, above 0.")
    return value


def one_among(given: Mapping[str, str], option: CommandOption, names: Sequence[str]) -> str:
    """The value of an option that takes one of several words, by default the first.

    Raises:
        UsageError: it is another word.
    """
    name = option.names[0]
    word = given.get(name, names[0])
    if word not in names:
        near = nearest(word, names)
        hint = f"did you mean {one_of(near)}?" if near else f"it must be {one_of(names)}."
        raise UsageError(f"{name}: {word} is not allowed; {hint}")
    return word


def monitored(given: Mapping[str, str], own: object) -> tuple[Literal["min", "max"], str] | None:
    """The direction and the name of the value to optimize, None if neither the user nor the scenario says it.

    Args:
        given: the values of the options.
        own: the `monitor` of the scenario.

    Raises:
        UsageError: the direction is missing.
    """
    word = given.get("--monitor")
    if word is None:
        mode, name = own if isinstance(own, tuple) and len(own) == 2 else (None, None)
        return (mode, name) if mode in ("min", "max") and isinstance(name, str) else None
    mode, colon, name = word.partition(":")
    if not colon or not name or mode not in ("min", "max"):
        raise UsageError(f"--monitor {word} is not allowed: write min:NAME or max:NAME, such as min:val_loss.")
    return ("min" if mode == "min" else "max"), name
