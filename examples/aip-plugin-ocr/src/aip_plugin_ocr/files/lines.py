"""Lines of text from files of several kinds, as samples by index."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from aip_plugins.scenarios.text_line_recognition.scenario import line_text

from aip_plugin_ocr.files.hdf5 import Hdf5Line, hdf5_lines
from aip_plugin_ocr.files.page import PageLine, page_lines
from aipcore.errors import DataError
from aipcore.scenario import Sample

logger = logging.getLogger("aip_plugin_ocr")

PAGE_SUFFIXES = (".xml",)
HDF5_SUFFIXES = (".h5", ".hdf5")


@attrs.frozen
class ImageLine:
    """A line in an image of its own.

    Attributes:
        path: the image. Its text is in the file of the same name that ends in `.gt.txt`.
    """

    path: Path

    @property
    def text(self) -> str:
        """The text, read from its file."""
        return line_text(self.path)

    @property
    def meta(self) -> dict[str, Any]:
        """The file."""
        return {"path": str(self.path)}

    def pixels(self) -> Any:
        """Return the image, read from its file: uint8 [height, width]."""
        from aip_plugins.scenarios.image_file import read_image

        return read_image(self.path, "L")


@attrs.frozen(eq=False)
class LineSource:
    """Lines by index, read on demand.

    Attributes:
        paths: the files.
        lines: the lines to read, in the order of the files.
        targets: True if texts are read too.
        without_text: number of lines that are left out because they have no text.
        page_images: number of images that are left out because they belong to a page.
    """

    paths: list[Path]
    lines: list[ImageLine | PageLine | Hdf5Line]
    targets: bool
    without_text: int = 0
    page_images: int = 0

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> Sample:
        line = self.lines[index]
        return Sample(inputs=line.pixels(), targets=line.text if self.targets else None, meta=line.meta)

    def texts(self) -> list[str]:
        """Return the texts of all lines."""
        return [line.text or "" for line in self.lines]

    def note(self, what: str) -> None:
        """Log what is left out.

        Args:
            what: name of the lines, such as "training lines".
        """
        if self.without_text:
            total = self.without_text + len(self.lines)
            logger.warning("%d of %d %s have no text and are left out.", self.without_text, total, what)
        if self.page_images:
            logger.info("Of the files of %s, %d are images of pages and not lines.", what, self.page_images)


def open_lines(paths: Sequence[Path], *, targets: bool, text_index: int, images: Path | None) -> LineSource:
    """Return the lines of files.

    A suffix selects the kind of a file. Images of a page in `paths`, or of its name, are not read as lines.

    Args:
        paths: images, PageXML, ALTO and HDF5 files.
        targets: True if texts are needed. Lines of pages and sets without text are then left out.
        text_index: index of the text to learn.
        images: folder of the page images.

    Raises:
        DataError: a file cannot be read, or no line is left.
    """
    lines: list[ImageLine | PageLine | Hdf5Line] = []
    for path in paths:
        suffix = path.suffix.lower()
        if suffix in PAGE_SUFFIXES:
            lines += page_lines(path, text_index=text_index, images=images)
        elif suffix in HDF5_SUFFIXES:
            lines += hdf5_lines(path)
        else:
            lines.append(ImageLine(path))
    kept = _without_pages(lines)
    page_images = len(lines) - len(kept)
    known = [line for line in kept if not targets or isinstance(line, ImageLine) or line.text is not None]
    if not known:
        if kept:
            raise DataError(
                f"None of the {len(kept):,} lines has a text with index {text_index}. Use other files, or another "
                "--data.text_index."
            )
        raise DataError(f"The {len(paths):,} files contain no lines. Use other files.")
    return LineSource(list(paths), known, targets, len(kept) - len(known), page_images)


def _without_pages(lines: list[Any]) -> list[Any]:
    pages = [line for line in lines if isinstance(line, PageLine)]
    images = {os.path.abspath(line.image) for line in pages}  # noqa: PTH100
    names = {(line.path.parent, line.path.name.partition(".")[0]) for line in pages}

    def of_page(line: Any) -> bool:
        return isinstance(line, ImageLine) and (
            os.path.abspath(line.path) in images  # noqa: PTH100
            or (line.path.parent, line.path.name.partition(".")[0]) in names
        )

    return [line for line in lines if not of_page(line)]
