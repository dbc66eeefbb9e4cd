"""ALTO, the format of the Library of Congress: lines of strings, each a word that may have alternatives."""

from __future__ import annotations

from collections.abc import Mapping

from aip_plugin_ocr.files.page_record import LineRecord, PageRecord, box, number, polygon
from aip_plugin_ocr.files.xml_file import Element, XmlFile, attributes_of_xml
from aipcore.errors import DataError

PLACES = ("HPOS", "VPOS", "WIDTH", "HEIGHT")

KEPT = ("ID", "STYLEREFS", "TAGREFS", "PROCESSINGREFS", *PLACES, "STYLE", "LANG")
"""Attributes of a string that do not depend on its text."""


def page_of(file: XmlFile) -> PageRecord:
    """Return the page of a file.

    Raises:
        DataError: the file does not have one page, or a line has no valid polygon or box.
    """
    heads = {
        name: [each for each in file.heads if each.name == name] for name in ("Page", "MeasurementUnit", "fileName")
    }
    if len(heads["Page"]) != 1:
        raise DataError(f"{file.path} has {len(heads['Page'])} pages. Write each page to a file of its own.")
    width, height = (number(file.path, heads["Page"][0], name) for name in ("WIDTH", "HEIGHT"))
    size = (width, height) if width and height else None
    unit = heads["MeasurementUnit"][0].text.strip() if heads["MeasurementUnit"] else "pixel"
    if unit != "pixel" and size is None:
        raise DataError(f"{file.path}: the Page has no WIDTH and HEIGHT, which the unit {unit[:20]!r} needs. Add them.")
    lines = tuple(_line(file, position, element) for position, element in enumerate(file.trees))
    name = heads["fileName"][0].text.strip() if heads["fileName"] else ""
    return PageRecord(name, size, unit == "pixel", lines)


def with_texts(file: XmlFile, texts: Mapping[int, tuple[str, float | None]], index: int) -> bytes:
    """Return the file with these texts in place of the strings of their lines; see `page.with_texts`.

    If a line has as many words as before, each word gets the place of the former one. Otherwise, the strings have no
    places.
    """
    del index
    changes: list[tuple[int, int, str]] = []
    for position, element in enumerate(file.trees):
        if position in texts:
            changes += _changes(file, element, *texts[position])
    return file.spliced(changes)


def _line(file: XmlFile, position: int, element: Element) -> LineRecord:
    return LineRecord(position, element.attributes.get("ID", ""), element.row, _outline(file, element), _texts(element))


def _outline(file: XmlFile, element: Element) -> tuple[tuple[float, float], ...]:
    for shape in element.named("Shape"):
        for each in shape.named("Polygon"):
            return polygon(file.path, each, each.attributes.get("POINTS", ""))
    boxes = [[number(file.path, each, name) for name in PLACES] for each in (element, *element.named("String"))]
    known = [[value for value in place if value is not None] for place in boxes if None not in place]
    if not known:
        raise DataError(
            f"{file.path}, line {element.row}: the TextLine has no polygon and no place. Add HPOS, VPOS, "
            "WIDTH and HEIGHT."
        )
    if None not in boxes[0]:
        return box(*known[0])
    left, top = (min(place[axis] for place in known) for axis in (0, 1))
    right, bottom = (max(place[axis] + place[axis + 2] for place in known) for axis in (0, 1))
    return box(left, top, right - left, bottom - top)


def _texts(element: Element) -> dict[int, str]:
    """Return the content (index 0) and the alternatives. A word that lacks an alternative has its content."""
    strings = element.named("String")
    if not strings:
        return {}
    hyphen = "".join(each.attributes.get("CONTENT", "") for each in element.named("HYP"))
    words = [
        [each.attributes.get("CONTENT", ""), *(other.text for other in each.named("ALTERNATIVE"))] for each in strings
    ]
    most = max(map(len, words))
    return {
        index: " ".join(word[index] if index < len(word) else word[0] for word in words) + hyphen
        for index in range(most)
    }


def _changes(file: XmlFile, element: Element, text: str, confidence: float | None) -> list[tuple[int, int, str]]:
    strings, hyphens = element.named("String"), element.named("HYP")
    words = text.split() or [""]
    hyphen = hyphens[0].attributes.get("CONTENT", "") if hyphens else ""
    changes = []
    if hyphen and len(words[-1]) > len(hyphen) and words[-1].endswith(hyphen):
        words[-1] = words[-1].removesuffix(hyphen)
    else:
        changes += [(each.start, each.end, "") for each in hyphens]
    if len(words) == len(strings):
        return changes + [
            (old.start, old.end, _string(file, element, word, confidence, old))
            for old, word in zip(strings, words, strict=True)
        ]
    tag = element.tag_of("SP")
    new = f"<{tag}/>".join(_string(file, element, word, confidence) for word in words)
    if strings:
        last = element.named("String", "SP")[-1]
        return [*changes, (strings[0].start, last.end, new)]
    if element.head == element.end:
        return [*changes, (element.head - 2, element.head, f">{new}</{element.tag}>")]
    start = next((each.end for each in element.named("Shape")), element.head)
    return [*changes, (start, start, new)]


def _string(file: XmlFile, line: Element, word: str, confidence: float | None, old: Element | None = None) -> str:
    tag = line.tag_of("String")
    attributes = {name: old.attributes[name] for name in KEPT if name in old.attributes} if old else {}
    attributes["CONTENT"] = word
    if confidence is not None:
        attributes["WC"] = f"{min(1.0, max(0.0, confidence)):.4f}"
    shape = "".join(file.data[each.start : each.end].decode() for each in old.named("Shape")) if old else ""
    return f"<{tag}{attributes_of_xml(attributes)}" + (f">{shape}</{tag}>" if shape else "/>")
