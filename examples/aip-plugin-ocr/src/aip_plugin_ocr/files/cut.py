"""Lines cut out of page images."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from aip_plugins.scenarios.image_file import read_image
from PIL import Image, ImageDraw

from aip_plugin_ocr.files.page import PageLine
from aipcore.errors import DataError


def cut_line(line: PageLine) -> Any:
    """Return the pixels within the polygon of a line, uint8 [height, width].

    The pixels outside of the polygon get the color of the paper: the median of the pixels inside, since ink covers less
    than half of a line.

    Raises:
        DataError: the image has another size than the page, or the polygon is outside of the image.
    """
    pixels = _page_pixels(line.image, line.image.stat().st_mtime_ns)
    given = f"{line.path}, line {line.record.row}"
    points = np.array(line.record.polygon) * _scale(line, pixels.shape)
    high = np.array(pixels.shape[::-1])
    # Far outside of the image, the exact place does not matter.
    points = np.clip(points, -10 * high, 10 * high)
    left, top = np.maximum(0, np.floor(points.min(axis=0))).astype(int)
    right, bottom = np.minimum(high, np.ceil(points.max(axis=0)) + 1).astype(int)
    if left >= right or top >= bottom:
        raise DataError(
            f"{given}: the polygon of the line is outside of the image {line.image} of {high[0]} x {high[1]} pixels. "
            "Correct it."
        )
    mask = Image.new("L", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in points.tolist()], fill=1)
    inside = np.asarray(mask, bool)
    cut = pixels[top:bottom, left:right]
    paper = np.median(cut[inside]) if inside.any() else 255
    return np.where(inside, cut, np.uint8(paper))


def _scale(line: PageLine, shape: tuple[int, ...]) -> Any:
    """Return the pixels per unit of the polygon, [x, y]."""
    if line.size is None:
        return np.ones(2)
    scale = np.array(shape[::-1]) / np.array(line.size)
    if not line.unit_is_pixel:
        return scale
    if (np.round(line.size) != shape[::-1]).any():
        raise DataError(
            f"{line.path} is for an image of {line.size[0]:.0f} x {line.size[1]:.0f} pixels, but {line.image} has "
            f"{shape[1]} x {shape[0]}. Use the image from which the file was made."
        )
    return np.ones(2)


@lru_cache(maxsize=2)
def _page_pixels(path: Path, _changed: int) -> Any:
    """Return the gray values of a page. Its lines are mostly read one after the other."""
    pixels = read_image(path, "L")
    pixels.flags.writeable = False
    return pixels
