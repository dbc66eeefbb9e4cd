"""Test values for a parameter, derived from its type and limit."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from aipcore.params.tree import Leaf
from aipcore.params.types import LeafType, to_plain

INTEGERS = (0, 1, 2, 3, 4, 5, 7, 10, 16, 100, 1000, -1, -2, -10, 10**9)
NUMBERS = (0.0, 0.5, 0.25, 0.9, 1.0, 0.001, 2.0, 10.0, 1e-7, 1000.0, -1.0, -0.5, 1e9, -1e9)
TEXTS = ("text", "a", "two words", ",", "1", "", "(", "a/b", "..", "é", "none", "-x")
PATHS = (Path("some/file.txt"), Path("file"))

NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def allowed_values(leaf: Leaf) -> list[Any]:
    """Return values of a leaf's type that its limit accepts, the most common ones first."""
    found = [value for value in _values(leaf.type) if leaf.spec.check is None or leaf.spec.check.accepts(value)]
    return [None, *found] if leaf.type.optional else found


def _values(kind: LeafType) -> Iterator[Any]:
    columns = [list(_items(item)) for item in kind.items]
    match kind.form:
        case "one":
            yield from columns[0]
        case "many":
            yield from ((value,) for value in columns[0])
            yield ()
        case "fixed":
            yield from zip(*columns, strict=False)
        case "table":
            yield from ({"key": value} for value in columns[0])


def _items(item: Any) -> tuple[Any, ...]:
    if get_origin(item) in (Union, types.UnionType):
        return tuple(value for part in get_args(item) for value in _items(part))
    if get_origin(item) is Literal:
        return get_args(item)
    if isinstance(item, type) and issubclass(item, Enum):
        return tuple(item)
    known: dict[Any, tuple[Any, ...]] = {
        bool: (True, False),
        int: INTEGERS,
        float: NUMBERS,
        str: TEXTS,
        Path: PATHS,
    }
    return known[item]


def words_of(leaf: Leaf, value: Any) -> list[str]:
    """Return the command-line words that set a leaf to `value`."""
    option = f"--{leaf.name}"
    plain = to_plain(value)
    match plain:
        case None:
            return [option, "none"]
        case list() | dict() if not plain:
            return [f"{option}="]
        case list():
            return [option, *(_word(each) for each in plain)]
        case dict():
            return [option, *(f"{key}={_word(each)}" for key, each in plain.items())]
        case _:
            return [f"{option}={_word(plain)}"] if plain else [option, _word(plain)]


def _word(plain: Any) -> str:
    return str(plain).lower() if isinstance(plain, bool) else str(plain)


def limits(leaf: Leaf) -> list[float]:
    """Return the numbers in the description of a numeric leaf's limit, such as 0 and 1 in "at least 0 and below 1"."""
    kind = _number_type(leaf)
    if leaf.spec.check is None or kind is None:
        return []
    return [kind(float(text)) for text in NUMBER.findall(leaf.spec.check.allowed)]


def _number_type(leaf: Leaf) -> type[float] | None:
    """Return the number type of a leaf, alone or next to literals such as "auto"; None for other leaves."""
    item = leaf.type.items[0]
    parts = get_args(item) if get_origin(item) in (Union, types.UnionType) else (item,)
    return next((part for part in parts if part in (int, float)), None)


def around(leaf: Leaf, limit: float) -> tuple[float, float, float]:
    """Return the next value below a limit, the limit, and the next value above, in the leaf's type."""
    if _number_type(leaf) is int:
        return limit - 1, limit, limit + 1
    return math.nextafter(limit, -math.inf), limit, math.nextafter(limit, math.inf)


def formed(leaf: Leaf, value: Any) -> Any:
    """Return a single value in the form of the leaf, such as a tuple."""
    match leaf.type.form:
        case "one":
            return value
        case "many":
            return (value,)
        case "fixed":
            return (value,) * len(leaf.type.items)
        case "table":
            return {"key": value}


def edge_values(leaf: Leaf) -> list[Any]:
    """Return the allowed values next to the limits of a numeric leaf, in the form of the leaf."""
    check = leaf.spec.check
    found = [formed(leaf, value) for limit in limits(leaf) for value in around(leaf, limit)]
    return [value for value in found if check is not None and check.accepts(value)]
