"""PageXML, the format of PRImA: lines with polygons, and texts that are told apart by an index."""

from __future__ import annotations

import re
from collections.abc import Mapping

from aip_plugin_ocr.files.page_record import LineRecord, PageRecord, number, polygon
from aip_plugin_ocr.files.xml_file import Element, XmlFile, attributes_of_xml, text_of_xml
from aipcore.errors import DataError

BEFORE_TEXT = ("AlternativeImage", "Coords", "Baseline", "Word", "TextEquiv")
"""Children of a line that the schema has before a further text."""

FIRST_WITH_INDEX, FIRST_WITH_CONFIDENCE = 2016, 2013
"""The years of the schemas in which texts got an index and a confidence."""


def page_of(file: XmlFile) -> PageRecord:
    """Return the page of a file.

    Raises:
        DataError: a line has no valid polygon.
    """
    heads = [each for each in file.heads if each.name == "Page"]
    if len(heads) != 1:
        raise DataError(f"{file.path} has {len(heads)} Page elements. Use a PageXML file of one page.")
    head = heads[0]
    width, height = (number(file.path, head, name) for name in ("imageWidth", "imageHeight"))
    lines = [_line(file, position, element) for position, element in enumerate(file.trees)]
    size = (width, height) if width and height else None
    return PageRecord(head.attributes.get("imageFilename", ""), size, True, tuple(lines))


def with_texts(file: XmlFile, texts: Mapping[int, tuple[str, float | None]], index: int) -> bytes:
    """Return the file with these texts by position of the line; see `page.with_texts`.

    A text of the same index is replaced. Files of schemas before 2016 have one text per line, which is replaced.
    """
    year = _year(file.root)
    changes = []
    for position, element in enumerate(file.trees):
        if position not in texts:
            continue
        new = _text_equiv(element, *texts[position], index, year)
        found = _texts(file, element)
        # Older schemas allow one text per line.
        old = found.get(index if year >= FIRST_WITH_INDEX else 0)
        if old is not None:
            changes.append((old.start, old.end, new))
        else:
            last = element.named(*BEFORE_TEXT)[-1]
            changes.append((last.end, last.end, file.space_before(last) + new))
    return file.spliced(changes)


def _line(file: XmlFile, position: int, element: Element) -> LineRecord:
    coords = element.named("Coords")
    if not coords:
        raise DataError(f"{file.path}, line {element.row}: the TextLine has no Coords. Add the polygon.")
    points = coords[0].attributes.get("points")
    if points is None:
        # The schemas before 2013 have an element for each point.
        points = " ".join(f"{each.attributes.get('x')},{each.attributes.get('y')}" for each in coords[0].named("Point"))
    texts = {index: found[0].text for index, each in _texts(file, element).items() if (found := each.named("Unicode"))}
    return LineRecord(
        position, element.attributes.get("id", ""), element.row, polygon(file.path, coords[0], points), texts
    )


def _texts(file: XmlFile, element: Element) -> dict[int, Element]:
    """Return the texts of a line by index. A text without an index has that of its position, unless another has it."""
    found: dict[int, Element] = {}
    numbered = enumerate(element.named("TextEquiv"))
    for position, each in sorted(numbered, key=lambda item: "index" not in item[1].attributes):
        given = each.attributes.get("index")
        if given is not None and not re.fullmatch(r"\s*\d{1,9}\s*", given):
            raise DataError(f"{file.path}, line {each.row}: index={given[:40]!r} is not an integer. Correct it.")
        found.setdefault(position if given is None else int(given), each)
    return found


def _text_equiv(element: Element, text: str, confidence: float | None, index: int, year: int) -> str:
    outer, inner = element.tag_of("TextEquiv"), element.tag_of("Unicode")
    attributes = {"index": str(index)} if year >= FIRST_WITH_INDEX else {}
    if confidence is not None and year >= FIRST_WITH_CONFIDENCE:
        attributes["conf"] = f"{min(1.0, max(0.0, confidence)):.4f}"
    content = text_of_xml(text)
    plain = element.tag_of("PlainText")
    before = f"<{plain}>{content}</{plain}>" if year < FIRST_WITH_CONFIDENCE else ""
    return f"<{outer}{attributes_of_xml(attributes)}>{before}<{inner}>{content}</{inner}></{outer}>"


def _year(root: Element) -> int:
    """Return the year of the schema, from the namespace; the newest one if it is unknown."""
    names = " ".join(value for name, value in root.attributes.items() if name.startswith("xmlns"))
    found = re.search(r"pagecontent/(\d{4})-\d\d-\d\d", names)
    return int(found.group(1)) if found else 9999
