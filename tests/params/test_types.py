"""Types of values: reading from the command line and files, writing to files, and descriptions."""

from __future__ import annotations

from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Any, Literal, Optional

import pytest

from aipcore.errors import ParamsError
from aipcore.params.types import NotAllowedError, leaf_type, to_plain


class Color(Enum):
    """An enum of text."""

    RED = "red"
    DARK_BLUE = "dark-blue"


class Level(IntEnum):
    """An enum of numbers."""

    LOW = 1
    HIGH = 2


class Order(StrEnum):
    """An enum that is text."""

    FIRST = "first"


class Old(str, Enum):  # noqa: UP042 - the older way is what is tested
    """An enum that is text, as written before StrEnum."""

    ONE = "one"


class Real(float, Enum):
    """An enum that is a number."""

    HALF = 0.5


Mode = Literal["auto", "on", "Off"]

WORDS: list[tuple[Any, str, Any]] = [
    (bool, "", True),
    (bool, "true", True),
    (bool, "YES", True),
    (bool, "on", True),
    (bool, "1", True),
    (bool, "false", False),
    (bool, "No", False),
    (bool, "off", False),
    (bool, "0", False),
    (int, "3", 3),
    (int, "-3", -3),
    (int, "+3", 3),
    (float, "3", 3.0),
    (float, "1e-7", 1e-7),
    (float, "-.5", -0.5),
    (str, "text", "text"),
    (str, "none", "none"),
    (Path, "a/b.txt", Path("a/b.txt")),
    (Path, "~/b.txt", Path.home() / "b.txt"),
    (Color, "red", Color.RED),
    (Color, "Dark_Blue", Color.DARK_BLUE),
    (Level, "2", Level.HIGH),
    (Order, "First", Order.FIRST),
    (Old, "one", Old.ONE),
    (Real, "0.5", Real.HALF),
    (Mode, "auto", "auto"),
    (Mode, "off", "Off"),
    (Literal["A", "a"], "a", "a"),
    (int | Literal["auto"], "Auto", "auto"),
    (int | Literal["auto"], "4", 4),
    (int | Literal["auto"] | None, "none", None),
    (Literal["A", "a"], "A", "A"),
    (Literal[1, 2], "2", 2),
    (int | None, "none", None),
    (int | None, "None", None),
    (int | None, "4", 4),
    (Optional[str], "text", "text"),  # noqa: UP045 - authors may write it so
    (bool | None, "", True),
    (tuple[int, ...], "1 2 3", (1, 2, 3)),
    (tuple[int, ...], "-1 -2", (-1, -2)),
    (tuple[int, ...], "", ()),
    (tuple[int, ...] | None, "none", None),
    (tuple[int, ...] | None, "1", (1,)),
    (tuple[int, int], "10 20", (10, 20)),
    (tuple[int, str], "10 x", (10, "x")),
    (tuple[Path, ...], "a b", (Path("a"), Path("b"))),
    (tuple[Color, ...], "red RED", (Color.RED, Color.RED)),
    (dict[str, int], "a=1 b=2", {"a": 1, "b": 2}),
    (dict[str, str], "a=x=y b=", {"a": "x=y", "b": ""}),
    (dict[str, int], "", {}),
]

NOT_WORDS: list[tuple[Any, str]] = [
    (bool, "maybe"),
    (bool, "2"),
    (bool, "true false"),
    (int, "three"),
    (int, "1.7"),
    (int, "1e3"),
    (int, "0x10"),
    (int, "1 2"),
    (int, ""),
    (int, "9" * 5000),
    (float, "1,5"),
    (float, "nan"),
    (float, "inf"),
    (float, "-Infinity"),
    (float, "1e999"),
    (Color, "green"),
    (Level, "3"),
    (Level, "LOW"),
    (Mode, "of"),
    (Literal["a-b", "A_B"], "ab"),
    (int | None, "nothing"),
    (tuple[int, ...], "1 x"),
    (tuple[int, ...], "none"),
    (tuple[int, int], "1"),
    (tuple[int, int], "1 2 3"),
    (tuple[int, int], ""),
    (dict[str, int], "a"),
    (dict[str, int], "=1"),
    (dict[str, int], "a=x"),
    (dict[str, int], "a=1 a=2"),
    (Path, "~nobody_of_this_name/x"),
]

PLAIN: list[tuple[Any, Any, Any]] = [
    (bool, True, True),
    (int, 3, 3),
    (float, 3, 3.0),
    (float, 0.1, 0.1),
    (str, "3", "3"),
    (str, "", ""),
    (Path, "a", Path("a")),
    (Path, Path("a"), Path("a")),
    (Color, "dark-blue", Color.DARK_BLUE),
    (Color, Color.RED, Color.RED),
    (Level, 1, Level.LOW),
    (Order, "first", Order.FIRST),
    (Old, "one", Old.ONE),
    (Real, 0.5, Real.HALF),
    (tuple[Order, ...], ["first"], (Order.FIRST,)),
    (dict[str, Level], {"a": 2}, {"a": Level.HIGH}),
    (Level | None, 2, Level.HIGH),
    (Mode, "on", "on"),
    (Literal[1, 2], 2, 2),
    (int | Literal["auto"], 3, 3),
    (int | Literal["auto"], "auto", "auto"),
    (int | None, None, None),
    (tuple[int, ...], [1, 2], (1, 2)),
    (tuple[int, ...], (), ()),
    (tuple[float, ...], [1, 0.5], (1.0, 0.5)),
    (tuple[int, ...] | None, None, None),
    (tuple[int, str], [1, "a"], (1, "a")),
    (dict[str, float], {"a": 1}, {"a": 1.0}),
    (dict[str, Path], {"a": "b"}, {"a": Path("b")}),
]

NOT_PLAIN: list[tuple[Any, Any]] = [
    (bool, 1),
    (bool, "true"),
    (bool, None),
    (int, 1.7),
    (int, 3.0),
    (int, True),
    (int, "3"),
    (int, None),
    (float, True),
    (float, "1.0"),
    (float, float("nan")),
    (float, float("inf")),
    (float, 10**400),
    (str, 3),
    (str, None),
    (str, b"x"),
    (Path, 3),
    (Path, ""),
    (Color, "RED"),
    (Color, 1),
    (Level, True),
    (Level, 1.0),
    (Mode, "off"),
    (Literal[1, 2], True),
    (int | Literal["auto"], "3"),
    (int | Literal["auto"], 1.0),
    (int | Literal["auto"], None),
    (Literal[1, 2], 1.0),
    (int | None, "none"),
    (tuple[int, ...], 1),
    (tuple[int, ...], "12"),
    (tuple[int, ...], None),
    (tuple[int, ...], [1, True]),
    (tuple[int, ...], {1: 2}),
    (tuple[int, int], [1]),
    (tuple[int, int], [1, 2, 3]),
    (dict[str, int], [1]),
    (dict[str, int], {1: 1}),
    (dict[str, int], {"a": True}),
]


def same(left: Any, right: Any) -> bool:
    """Return True if both are equal and of the same type, which 1, 1.0 and True are not."""
    return left == right and type(left) is type(right)


@pytest.mark.parametrize(("annotation", "words", "value"), WORDS, ids=str)
def test_words(annotation: Any, words: str, value: Any) -> None:
    """Words of the command line are converted to a value of the type."""
    assert same(leaf_type(annotation, "P.x").from_words(words.split()), value)


@pytest.mark.parametrize(("annotation", "words"), NOT_WORDS, ids=lambda part: str(part)[:30])
def test_words_refused(annotation: Any, words: str) -> None:
    """Words that do not match the type are refused."""
    with pytest.raises(NotAllowedError):
        leaf_type(annotation, "P.x").from_words(words.split())


@pytest.mark.parametrize(("annotation", "given", "value"), PLAIN, ids=str)
def test_plain(annotation: Any, given: Any, value: Any) -> None:
    """Values of files are accepted if nothing is lost."""
    assert same(leaf_type(annotation, "P.x").from_plain(given), value)


@pytest.mark.parametrize(("annotation", "given"), NOT_PLAIN, ids=lambda part: str(part)[:30])
def test_plain_refused(annotation: Any, given: Any) -> None:
    """Values of files are never converted to fit."""
    with pytest.raises(NotAllowedError):
        leaf_type(annotation, "P.x").from_plain(given)


@pytest.mark.parametrize(("annotation", "given", "value"), PLAIN, ids=str)
def test_to_plain_and_back(annotation: Any, given: Any, value: Any) -> None:
    """A file gets only JSON types, and restores the value."""
    del given
    plain = to_plain(value)
    assert type(plain) in (bool, int, float, str, list, dict, type(None))
    assert same(leaf_type(annotation, "P.x").from_plain(plain), value)


@pytest.mark.parametrize(
    ("annotation", "words", "metavar"),
    [
        (bool, "true or false", "BOOL"),
        (int, "a whole number", "INT"),
        (float, "a number", "FLOAT"),
        (str, "text", "TEXT"),
        (Path, "a path", "PATH"),
        (Color, "red or dark-blue", "red|dark-blue"),
        (Mode, "auto, on or Off", "auto|on|Off"),
        (int | None, "a whole number, or none", "INT"),
        (tuple[int, ...], "a list of values, each a whole number", "INT ..."),
        (tuple[int, int], "2 values, each a whole number", "INT INT"),
        (tuple[int], "1 value, each a whole number", "INT"),
        (tuple[int, str], "2 values: a whole number, then text", "INT TEXT"),
        (dict[str, float], "entries KEY=VALUE, each value a number", "KEY=FLOAT ..."),
        (tuple[str, ...] | None, "a list of values, each text, or none", "TEXT ..."),
    ],
    ids=str,
)
def test_described(annotation: Any, words: str, metavar: str) -> None:
    """Error messages and the help describe a type in the user's terms."""
    leaf = leaf_type(annotation, "P.x")
    assert (leaf.words, leaf.metavar) == (words, metavar)


class Shape(Enum):
    """An enum whose values a file cannot hold."""

    WIDE = (1, 2)


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (list[int], "list[int]"),
        (list, "list"),
        (dict, "dict"),
        (dict[int, str], "dict[int, str]"),
        (tuple, "tuple"),
        (tuple[()], "tuple[()]"),
        (tuple[tuple[int, ...], ...], "tuple[tuple[int, ...], ...]"),
        (int | str, "int | str"),
        (object, "object"),
        (bytes, "bytes"),
        (complex, "complex"),
        (Any, "Any"),
        (Shape, "Shape"),
        (Literal[b"a"], "typing.Literal[b'a']"),
        (None, "None"),
    ],
    ids=str,
)
def test_unsupported(annotation: Any, name: str) -> None:
    """An unsupported type is an error that names the field, the type and the alternatives."""
    with pytest.raises(ParamsError) as caught:
        leaf_type(annotation, "Model.units")
    assert str(caught.value) == (
        f"Model.units has the type {name}, which options do not support. Use bool, int, float, str, Path, an Enum or "
        "Literal of text or numbers, int | Literal, X | None, tuple[X, ...], tuple[X, Y] or dict[str, X]."
    )
