"""Layers of parameter values: from files, from a scenario's defaults and from the command line."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from aipcore.errors import ParamsError
from aipcore.files import RECORD_BYTES, read_text

if TYPE_CHECKING:
    import yaml


YAML_BYTES = 2**19
"""Maximum size of a YAML file in bytes. YAML is far slower to parse than JSON."""

MOST_VALUES = 100_000
"""Maximum number of values in a YAML file with all aliases expanded."""

WHOLE = r"(0|[1-9][0-9]*)"
FLOAT = re.compile(rf"^[-+]?(\.[0-9]+|{WHOLE}(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$")
INT = re.compile(rf"^[-+]?{WHOLE}$")


def read_mapping(path: Path) -> dict[str, Any]:
    """Read the mapping in a `.json`, `.yaml` or `.yml` file. An empty file is an empty mapping.

    YAML follows version 1.2 (`1e-7` is a number, `no` is a string). Duplicate keys are an error.

    Raises:
        ParamsError: the file cannot be read, or does not contain a mapping in its format.
    """
    if path.suffix not in (".json", ".yaml", ".yml"):
        raise ParamsError(f"The parameter file {path} must end in .json, .yaml or .yml, which selects the format.")
    try:
        text = read_text(path, limit=RECORD_BYTES if path.suffix == ".json" else YAML_BYTES)
    except OSError as error:
        raise ParamsError(f"The parameter file {path} cannot be read ({error.strerror}). Check the path.") from error
    except UnicodeDecodeError as error:
        raise ParamsError(f"The parameter file {path} is not UTF-8 text. Save it as UTF-8.") from error
    content = _read_json(path, text) if path.suffix == ".json" else _read_yaml(path, text)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ParamsError(
            f"The parameter file {path} contains {type(content).__name__} instead of a mapping. "
            "Write NAME: VALUE entries."
        )
    return content


def _read_json(path: Path, text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise ParamsError(f"The parameter file {path} contains {twice!r} twice in one mapping. Remove one of them.")
        return made

    def refuse(word: str) -> Any:
        raise ParamsError(
            f"The parameter file {path} contains {word}, which is not a finite number. Use a finite number."
        )

    try:
        return json.loads(text or "null", object_pairs_hook=unique, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise ParamsError(
            f"The parameter file {path} is not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}."
        ) from error
    except RecursionError as error:
        raise ParamsError(f"The parameter file {path} is not valid JSON: it is nested too deeply.") from error
    except ValueError as error:
        # Python limits the number of digits of an integer.
        raise ParamsError(f"The parameter file {path} contains a number with too many digits. Shorten it.") from error


def _read_yaml(path: Path, text: str) -> Any:
    import yaml

    try:
        content = yaml.load(text, _loader())
        if _size(content, {}) > MOST_VALUES:
            raise ParamsError(
                f"The parameter file {path} has more than {MOST_VALUES:,} values when its aliases are expanded. "
                "Use fewer aliases."
            )
        return content
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ParamsError(f"The parameter file {path} is not valid YAML{place}: {error.problem}.") from error
    except yaml.YAMLError as error:
        raise ParamsError(f"The parameter file {path} is not valid YAML: {' '.join(str(error).split())}.") from error
    except RecursionError as error:
        raise ParamsError(f"The parameter file {path} is not valid YAML: it is nested too deeply.") from error


def _size(value: Any, known: dict[int, int]) -> int:
    """Return the number of values with all aliases expanded."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        items = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(item, known) for item in items)
    return known[id(value)]


DEPTH = 100
"""Maximum nesting depth of collections in YAML."""


@cache
def _loader() -> type[yaml.SafeLoader]:
    import yaml

    def _refused(problem: str, node: Any) -> Exception:
        return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)

    class Loader(yaml.SafeLoader):
        """Safe YAML loader with the core schema of version 1.2. Duplicate keys are an error."""

        yaml_implicit_resolvers: Any = {}  # noqa: RUF012 - as the base class declares it
        yaml_constructors: ClassVar[Any] = {
            tag: constructor
            for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
            if tag is None or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map")
        }

        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            """Refuse values that contain themselves, and deep nesting, on which PyYAML becomes very slow."""
            if self.depth == DEPTH:
                raise RecursionError
            self.depth += 1
            node = super().compose_node(parent, index)
            self.depth -= 1
            # A collection has no end mark while its parts are being read.
            if node is not None and node.end_mark is None:
                raise _refused("an alias is inside the value that it names", node)
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            """Refuse duplicate keys."""
            seen = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if not isinstance(key, Hashable):
                    raise _refused("a key must be text", key_node)
                if key in seen:
                    raise _refused(f"{key!r} is given twice", key_node)
                seen.add(key)
            return super().construct_mapping(node, deep)

        def construct_object(self, node: Any, deep: bool = False) -> Any:
            """Add the position to the error for a scalar that does not match its tag or is too long."""
            try:
                return super().construct_object(node, deep)
            except (ValueError, LookupError) as error:
                raise _refused(f"{node.value[:20]} is not a valid {node.tag.rpartition(':')[2]}", node) from error

    def resolver(tag: str, pattern: re.Pattern[str], first: str) -> None:
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", pattern, list(first))

    resolver("int", INT, "-+0123456789")
    resolver("float", FLOAT, "-+.0123456789")
    resolver("bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), "tTfF")
    resolver("null", re.compile(r"^(~|null|Null|NULL|)$"), "~nN")
    Loader.yaml_implicit_resolvers.setdefault("", []).append(("tag:yaml.org,2002:null", re.compile(r"^$")))
    return Loader


COMMAND_LINE = "command line"


@attrs.frozen
class Option:
    """A value from the command line, as typed by the user.

    Attributes:
        written: option with its dashes, e.g. `--train.batch-size`.
        words: values as text.
        closed: True for the form `--name=`, in which no words mean an empty list.
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
    """Values from one origin.

    Attributes:
        name: origin, as displayed to users.
        values: nested mapping; keys may be dotted. A value from the command line is an `Option`.
        called: the name of the layer in errors; by default `name`.
        outlasts: True if values are kept when a later layer chooses another component with the same field.
        repeats: True for a record of all values of a run: values that it repeats keep their origin.
    """

    name: str
    values: Mapping[str, Any] = attrs.field(factory=dict)
    outlasts: bool = False
    called: str = ""
    repeats: bool = False

    @property
    def options(self) -> list[Option]:
        """The values from the command line."""
        return [value for value in self.values.values() if isinstance(value, Option)]

    @classmethod
    def of_options(cls, name: str, options: Iterable[Option]) -> Layer:
        """Return a layer of command-line values."""
        return cls(name, {option.name: option for option in options})

    @classmethod
    def from_mapping(cls, name: str, values: Mapping[str, Any]) -> Layer:
        """Return a layer of Python values."""
        return cls(name, values)

    @classmethod
    def of_scenario(cls, name: str, defaults: Mapping[str, Any], called: str = "") -> Layer:
        """Return the layer of a scenario's defaults. They are kept when another component is chosen.

        Args:
            name: the scenario's name.
            defaults: the values.
            called: the name of the defaults in errors, such as `Spirals.defaults`; by default the layer's name.
        """
        return cls(f"scenario {name}", defaults, outlasts=True, called=called)

    @classmethod
    def from_file(cls, path: Path) -> Layer:
        """Return the layer of a JSON or YAML file.

        Raises:
            ParamsError: the file is missing, or does not contain a mapping in its format.
        """
        return cls(str(path), read_mapping(path))

    @classmethod
    def from_arguments(cls, words: Sequence[str]) -> Layer:
        """Return the layer of command-line words: `--name value`, `--name=value`, `--name value value`, `--flag`.

        A word that begins with `--` is an option. All words up to the next option are its values, so `-1` and `-x` are
        values too.

        Raises:
            ParamsError: a value precedes the first option, or an option is repeated.
        """
        options: list[Option] = []
        for word in words:
            if word.startswith("--") and len(word) > 2:
                written, equals, value = word.partition("=")
                options.append(Option(written, (value,) if value else (), closed=bool(equals)))
                continue
            if not options:
                name, equals, value = word.removeprefix("-").partition("=")
                meant = f"--OPTION {word}"
                if name[:1].isalpha() and (equals or word.startswith("-")):
                    meant = f"--{name} {value}".rstrip()
                raise ParamsError(f"Unexpected argument {word!r}. Values follow an option: {meant}.")
            last = options[-1]
            options[-1] = attrs.evolve(last, words=(*last.words, word))
        seen: set[str] = set()
        for option in options:
            if option.name in seen:
                raise ParamsError(f"{option.written} is given twice. Give it once, with all its values.")
            seen.add(option.name)
        return cls.of_options(COMMAND_LINE, options)
