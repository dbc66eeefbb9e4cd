"""Where values come from: defaults of a scenario, a file, the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from aipcore.errors import ParamsError

COMMAND_LINE = "command line"


@attrs.frozen
class Option:
    """An option as the user wrote it.

    Attributes:
        written: the option with its dashes, e.g. `--train.batch-size`.
        words: its values, as text.
        closed: whether it was written `--name=`, so that having no words means an empty list.
    """

    written: str
    words: tuple[str, ...]
    closed: bool = False

    @property
    def name(self) -> str:
        """The dotted name."""
        return self.written.removeprefix("--").replace("-", "_")


@attrs.frozen
class Layer:
    """Values of one origin.

    Attributes:
        name: how users are told of the origin.
        values: a nested mapping, for files and Python; keys may be dotted.
        options: for command lines.
        outlasts: whether values stay where a later layer chooses another component that has the same field.
        repeats: whether this is a record of all values of a run: what it repeats keeps its origin.
    """

    name: str
    values: Mapping[str, Any] = attrs.field(factory=dict)
    options: tuple[Option, ...] = ()
    outlasts: bool = False
    repeats: bool = False

    @classmethod
    def from_mapping(cls, name: str, values: Mapping[str, Any]) -> Layer:
        """A layer of Python values."""
        return cls(name, values)

    @classmethod
    def of_scenario(cls, name: str, defaults: Mapping[str, Any]) -> Layer:
        """The layer of a scenario's defaults, which outlast the choice of another component."""
        return cls(f"scenario {name}", defaults, outlasts=True)

    @classmethod
    def from_file(cls, path: Path) -> Layer:
        """A layer of a JSON or YAML file.

        Raises:
            ParamsError: the file is missing, or is no mapping in that format.
        """
        from aipcore.params.files import read_mapping

        return cls(str(path), read_mapping(path))

    @classmethod
    def from_arguments(cls, words: Sequence[str]) -> Layer:
        """A layer of command-line words: `--name value`, `--name=value`, `--name value value`, `--flag`.

        A word that begins with `--` is an option; all others up to the next option are its values, so that `-1` and
        `-x` are values too.

        Raises:
            ParamsError: a value stands before the first option, or an option comes twice.
        """
        options: list[Option] = []
        for word in words:
            if word.startswith("--") and len(word) > 2:
                written, equals, value = word.partition("=")
                options.append(Option(written, (value,) if value else (), closed=bool(equals)))
                continue
            if not options:
                raise ParamsError(f"{word!r} belongs to no option: write --NAME {word}.")
            last = options[-1]
            options[-1] = attrs.evolve(last, words=(*last.words, word))
        seen: set[str] = set()
        for option in options:
            if option.name in seen:
                raise ParamsError(f"{option.written} is given twice: give it once, with all its values.")
            seen.add(option.name)
        return cls(COMMAND_LINE, {}, tuple(options))
