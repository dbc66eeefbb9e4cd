"""Pages and lines as XML files describe them, and the numbers in these files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import attrs

from aip_plugin_ocr.files.xml_file import Element
from aipcore.errors import DataError

_NUMBER = r"[-+]?(?:\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})"
_NUMBERS = re.compile(rf"\s*{_NUMBER}(?:[\s,]+{_NUMBER})*\s*")


@attrs.frozen
class LineRecord:
    """A line as a file describes it.

    Attributes:
        number: position in the file, counted from 0.
        id: its ID in the file; empty without one.
        row: the line of the file, counted from 1.
        polygon: the corners, (x, y).
        texts: the texts by index.
    """

    number: int
    id: str
    row: int
    polygon: tuple[tuple[float, float], ...]
    texts: Mapping[int, str]


@attrs.frozen
class PageRecord:
    """A page as a file describes it.

    Attributes:
        image: the name of its image; empty if the file has none.
        size: width and height in the unit of the polygons; None if the file has none.
        pixels: True if the unit is a pixel.
        lines: the lines in the order of the file.
    """

    image: str
    size: tuple[float, float] | None
    pixels: bool
    lines: tuple[LineRecord, ...]


def number(path: Path, element: Element, name: str) -> float | None:
    """Return an attribute as a number, or None if it is missing.

    Raises:
        DataError: the attribute is not a number.
    """
    given = element.attributes.get(name)
    if given is None or not given.strip():
        return None
    if not re.fullmatch(rf"\s*{_NUMBER}\s*", given):
        raise DataError(f"{path}, line {element.row}: {name}={given[:40]!r} is not a number. Correct it.")
    return float(given)


def polygon(path: Path, element: Element, given: str) -> tuple[tuple[float, float], ...]:
    """Return the points of a polygon.

    Raises:
        DataError: the text is not a list of at least three points.
    """
    values = re.findall(_NUMBER, given) if _NUMBERS.fullmatch(given) else []
    if len(values) < 6 or len(values) % 2:
        raise DataError(
            f"{path}, line {element.row}: the points {given[:40]!r} are not a polygon. Write at least three points "
            "as x,y with blanks between them."
        )
    found = [float(value) for value in values]
    return tuple(zip(found[::2], found[1::2], strict=True))


def box(left: float, top: float, width: float, height: float) -> tuple[tuple[float, float], ...]:
    """Return a rectangle as a polygon of its outermost pixels."""
    right, bottom = left + max(0, width - 1), top + max(0, height - 1)
    return ((left, top), (right, top), (right, bottom), (left, bottom))
