"""The types of leaves: conversion from text and from plain values, to plain values, and description in words."""

from __future__ import annotations

import math
import types
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

import attrs

from aipcore.errors import ParamsError
from aipcore.params.names import count, normalize, one_of

if TYPE_CHECKING:
    from cattrs import Converter

TRUE = ("true", "yes", "on", "1")
FALSE = ("false", "no", "off", "0")

WORDS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}


class NotAllowedError(ValueError):
    """A value that does not match the type of a leaf."""


@attrs.frozen
class LeafType:
    """The parsed type of a leaf.

    Attributes:
        annotation: type annotation of the author.
        form: `one` value, `many` values, a `fixed` number of values, or a `table` from string to value.
        items: type of the value, of the items, of each position of a fixed number, or of the values of a table.
        optional: True if None is allowed.
    """

    annotation: Any
    form: Literal["one", "many", "fixed", "table"]
    items: tuple[Any, ...]
    optional: bool

    @property
    def words(self) -> str:
        """Return the end of the sentence "it must be ..."."""
        first = _words(self.items[0])
        match self.form:
            case "one":
                text = first
            case "many":
                text = f"a list of values, each {first}"
            case "fixed":
                alike = len(set(self.items)) == 1
                each = f", each {first}" if alike else f": {', then '.join(_words(item) for item in self.items)}"
                text = f"{count(len(self.items), 'value')}{each}"
            case "table":
                text = f"entries KEY=VALUE, each value {first}"
        return f"{text}, or none" if self.optional else text

    @property
    def metavar(self) -> str:
        """Return the placeholder for the value in `--help`."""
        first = _metavar(self.items[0])
        match self.form:
            case "one":
                return first
            case "many":
                return f"{first} ..."
            case "fixed":
                return " ".join(_metavar(item) for item in self.items)
            case "table":
                return f"KEY={first} ..."

    @property
    def is_flag(self) -> bool:
        """True if the option without a value means True."""
        return self.form == "one" and self.items[0] is bool

    def from_words(self, words: Sequence[str]) -> Any:
        """Convert the command-line words of an option to a value.

        Raises:
            NotAllowedError: the words are not of this type.
        """
        if self.optional and len(words) == 1 and words[0].casefold() == "none":
            return None
        match self.form:
            case "one":
                if self.is_flag and not words:
                    return True
                if len(words) != 1:
                    raise NotAllowedError
                return _from_word(self.items[0], words[0])
            case "many":
                return tuple(_from_word(self.items[0], word) for word in words)
            case "fixed":
                if len(words) != len(self.items):
                    raise NotAllowedError
                return tuple(_from_word(item, word) for item, word in zip(self.items, words, strict=True))
            case "table":
                return self._table_from_words(words)

    def _table_from_words(self, words: Sequence[str]) -> dict[str, Any]:
        table = {}
        for word in words:
            key, equals, value = word.partition("=")
            if not equals or not key or key in table:
                raise NotAllowedError
            table[key] = _from_word(self.items[0], value)
        return table

    def from_plain(self, value: Any) -> Any:
        """Convert a value from a file or a Python mapping. Lossy conversions are refused.

        Raises:
            NotAllowedError: the value is not of this type.
        """
        if self.form in ("many", "fixed") and not isinstance(value, list | tuple) and value is not None:
            raise NotAllowedError
        try:
            return converter().structure(value, self.annotation)
        except NotAllowedError:
            raise
        except Exception as error:
            raise NotAllowedError from error


def leaf_type(annotation: Any, where: str) -> LeafType:
    """Parse a type annotation.

    Raises:
        ParamsError: leaves do not support this type. `where` names the field in the message.
    """
    whole = annotation
    optional = False
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        optional = len(parts) < len(get_args(annotation))
        if len(parts) != 1 and not _is_number_or_word(annotation):
            raise _unsupported(annotation, where)
        annotation = parts[0] if len(parts) == 1 else Union[tuple(parts)]  # noqa: UP007 - made at run time
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple and arguments:
        if arguments[-1] is Ellipsis:
            form, items = "many", arguments[:1]
        else:
            form, items = "fixed", arguments
    elif origin is dict and arguments[0] is str:
        form, items = "table", arguments[1:]
    else:
        form, items = "one", (annotation,)
    if not all(_is_single(item) for item in items):
        raise _unsupported(annotation, where)
    for item in items:
        if isinstance(item, type) and issubclass(item, Enum):
            # One by one, since an Enum that is also a str or int would be treated as its other base.
            converter().register_structure_hook(item, _member)
            converter().register_unstructure_hook(item, _value)
    return LeafType(whole, form, items, optional)  # type: ignore[arg-type]


def type_name(annotation: Any) -> str:
    """Return an annotation in the form an author writes it."""
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)


def to_plain(value: Any) -> Any:
    """Convert a leaf's value for a file: only text, numbers, booleans, None, lists and mappings."""
    return converter().unstructure(value)


@cache
def converter() -> Converter:
    """Return the cattrs converter of leaf values. It refuses lossy conversions: neither 1.7 to 1 nor "3" to 3."""
    from cattrs import Converter

    made = Converter(detailed_validation=False)
    for kind in (bool, int, str):
        made.register_structure_hook(kind, _exactly)
    made.register_structure_hook(float, _number)
    made.register_structure_hook(Path, _path)
    made.register_structure_hook_func(_is_literal, _literal)
    made.register_structure_hook_func(_is_number_or_word, lambda value, kind: _either(made, value, kind))
    made.register_unstructure_hook(Path, str)
    made.register_unstructure_hook(tuple, lambda values: [made.unstructure(value) for value in values])
    return made


def _is_literal(kind: Any) -> bool:
    origin: Any = get_origin(kind)
    return origin is Literal


def _exactly(value: Any, kind: Any) -> Any:
    # bool is a subclass of int, but True is not a valid number of epochs.
    if type(value) is kind:
        return value
    raise NotAllowedError


def _number(value: Any, _: Any) -> float:
    # JSON has no NaN or infinity, so a saved run could not be read back.
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            raise NotAllowedError from None
        if math.isfinite(number):
            return number
    raise NotAllowedError


def _path(value: Any, _: Any) -> Path:
    if isinstance(value, str | Path) and str(value):
        try:
            return Path(value).expanduser()
        except (RuntimeError, ValueError):
            # ~user without a home directory, or a NUL in the name.
            raise NotAllowedError from None
    raise NotAllowedError


def _literal(value: Any, kind: Any) -> Any:
    if any(value == option and type(value) is type(option) for option in get_args(kind)):
        return value
    raise NotAllowedError


def _either(made: Converter, value: Any, kind: Any) -> Any:
    for part in get_args(kind):
        if part is type(None) and value is None:
            return None
        with suppress(NotAllowedError):
            return made.structure(value, part)
    raise NotAllowedError


def _is_number_or_word(kind: Any) -> bool:
    """Return True if a type is an int or float with literals, e.g. `int | Literal["auto"]`, with or without None."""
    if get_origin(kind) not in (Union, types.UnionType):
        return False
    parts = {part for part in get_args(kind) if part is not type(None)}
    words = {part for part in parts if get_origin(part) is Literal}
    return bool(words) and len(parts - words) == 1 and parts - words <= {int, float}


def _value(member: Any) -> Any:
    return member.value


def _member(value: Any, kind: Any) -> Any:
    for member in kind:
        if value is member or (type(value) is type(member.value) and value == member.value):
            return member
    raise NotAllowedError


def _is_single(annotation: Any) -> bool:
    if annotation in WORDS:
        return True
    if _is_number_or_word(annotation):
        return all(_is_single(part) for part in get_args(annotation))
    if get_origin(annotation) is not Literal and not (isinstance(annotation, type) and issubclass(annotation, Enum)):
        return False
    return all(option is None or isinstance(option, str | int | float) for option in _options(annotation))


def _unsupported(annotation: Any, where: str) -> ParamsError:
    return ParamsError(
        f"{where} has the type {type_name(annotation)}, which options do not support. Use bool, int, float, str, Path, "
        "an Enum or Literal of text or numbers, int | Literal, X | None, tuple[X, ...], tuple[X, Y] or dict[str, X]."
    )


def _options(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [member.value for member in annotation]


def _words(annotation: Any) -> str:
    if _is_number_or_word(annotation):
        return " or ".join(_words(part) for part in get_args(annotation))
    return WORDS[annotation] if annotation in WORDS else one_of(str(option) for option in _options(annotation))


def _metavar(annotation: Any) -> str:
    if _is_number_or_word(annotation):
        return "|".join(_metavar(part) for part in get_args(annotation))
    if annotation in WORDS:
        return {bool: "BOOL", int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}[annotation]
    return "|".join(str(option) for option in _options(annotation))


def _from_word(annotation: Any, word: str) -> Any:
    plain: Any = word
    if _is_number_or_word(annotation):
        for part in get_args(annotation):
            with suppress(NotAllowedError):
                return _from_word(part, word)
        raise NotAllowedError
    if annotation is bool:
        plain = True if word.casefold() in TRUE else False if word.casefold() in FALSE else word
    elif annotation in (int, float):
        try:
            plain = annotation(word)
        except ValueError:
            raise NotAllowedError from None
    elif annotation not in WORDS:
        options = _options(annotation)
        exact = [option for option in options if str(option) == word]
        alike = [option for option in options if normalize(str(option)) == normalize(word)]
        plain = exact[0] if exact else alike[0] if len(alike) == 1 else word
    try:
        return converter().structure(plain, annotation)
    except (NotAllowedError, ValueError):
        raise NotAllowedError from None
