"""Pages: an XML file in one of two formats, the lines in it, and copies with predicted texts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import attrs

from aip_plugin_ocr.files import alto, page_xml
from aip_plugin_ocr.files.page_record import LineRecord, PageRecord
from aip_plugin_ocr.files.xml_file import read_xml
from aipcore.errors import DataError

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
"""Suffixes of page images, in the order in which they are tried."""

FORMATS = {"PcGts": page_xml, "alto": alto}
"""The formats by the name of the root element."""


@attrs.frozen
class PageLine:
    """A line of a page.

    Attributes:
        path: the XML file.
        image: the image of the page.
        size: width and height of the page in the unit of the polygon; None if they are unknown.
        unit_is_pixel: True if the unit is a pixel.
        record: the line in the file.
        text_index: index of the text to learn.
    """

    path: Path
    image: Path
    size: tuple[float, float] | None
    unit_is_pixel: bool
    record: LineRecord
    text_index: int

    @property
    def text(self) -> str | None:
        """The text with the chosen index, or None if there is none."""
        return self.record.texts.get(self.text_index) or None

    @property
    def meta(self) -> dict[str, Any]:
        """The file, the line's ID and its position in the file."""
        return {"path": str(self.path), "line": self.record.id, "number": self.record.number}

    def pixels(self) -> Any:
        """Return the line, cut out by its polygon: uint8 [height, width].

        Raises:
            DataError: the image cannot be read or does not fit the file.
        """
        from aip_plugin_ocr.files.cut import cut_line

        return cut_line(self)


def page_lines(path: Path, *, text_index: int, images: Path | None) -> list[PageLine]:
    """Return the lines of a page.

    Args:
        path: a PageXML or ALTO file.
        text_index: index of the text to learn.
        images: folder of the page images; by default they are searched beside the file.

    Raises:
        DataError: the file or its image cannot be read.
    """
    page = read_page(path)
    if not page.lines:
        return []
    image = _image_of(path, page.image, images)
    return [PageLine(path, image, page.size, page.pixels, record, text_index) for record in page.lines]


def read_page(path: Path) -> PageRecord:
    """Return a page.

    Raises:
        DataError: the file is not PageXML or ALTO, or a line in it is not valid.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). Check the path.") from error
    return _read_page(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1024)
def _read_page(path: Path, _changed: int, _size: int) -> PageRecord:
    file = read_xml(path, trees={"TextLine"}, heads={"Page", "MeasurementUnit", "fileName"})
    return _format(path, file.root.name).page_of(file)


def with_texts(path: Path, texts: Mapping[int, tuple[str, float | None]], *, index: int) -> bytes:
    """Return a copy of a page with predicted texts.

    Args:
        path: a PageXML or ALTO file.
        texts: text and confidence by position of the line.
        index: index that the texts get in PageXML. In ALTO, they replace the strings of the line.
    """
    file = read_xml(path, trees={"TextLine"}, heads={"Page"})
    return _format(path, file.root.name).with_texts(file, texts, index)


def _format(path: Path, root: str) -> Any:
    if root not in FORMATS:
        raise DataError(f"{path} is not PageXML or ALTO: its root element is {root}. Leave it out of the list.")
    return FORMATS[root]


def _image_of(path: Path, given: str, images: Path | None) -> Path:
    """Return the image of a page, from the name in the file or the name of the file."""
    named = PurePosixPath(given.strip().replace("\\", "/"))
    stem = path.name.partition(".")[0]
    places = [path.parent] if images is None else [images]
    names = [named.name] if named.name else []
    if images is None and not named.is_absolute() and ":" not in given:
        # The name may be relative to the file, or to the folder that contains folders of images and of pages.
        relative = [Path(os.path.normpath(each / named)) for each in (path.parent, path.parent.parent)]
        candidates = [each for each in relative if each.is_relative_to(os.path.normpath(path.parent.parent))]
    else:
        candidates = []
    candidates += [place / name for place in places for name in names]
    candidates += [place / f"{stem}{suffix}" for place in places for suffix in IMAGE_SUFFIXES]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    shown = re.sub(r"\s+", " ", given)[:200] or "no name"
    raise DataError(
        f"The image of {path} ({shown}) is not in {places[0]}. Put it there, or pass --data.page_images FOLDER."
    )
