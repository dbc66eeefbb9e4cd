"""Processors of line images, chosen by name. They take and return uint8 [height, width], dark ink on light paper."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from aip_plugin_ocr.calamari.params import CalamariParams
from aip_plugin_ocr.calamari.preparation import Calamari
from aip_plugin_ocr.images.center_line import center_line
from aip_plugin_ocr.images.params import BackgroundParams, DewarpParams, LevelsParams
from aipcore.scenario import Processor, Sample

Array = np.ndarray[Any, np.dtype[Any]]

LEAST_CONTRAST = 8
"""The least difference of gray values that counts as ink on paper. Images below it are not changed."""


class Dewarp(Processor):
    """Moves each column so that the center line is straight, and crops the image to the ink."""

    def __init__(self, params: DewarpParams) -> None:
        self.params = params

    def process(self, sample: Sample) -> Sample:
        """Return the straight line; its height depends on that of the letters."""
        return attrs.evolve(sample, inputs=dewarped(sample.inputs, self.params.smoothing, self.params.extent))


class Levels(Processor):
    """Stretches the contrast."""

    def __init__(self, params: LevelsParams) -> None:
        self.params = params

    def process(self, sample: Sample) -> Sample:
        """Return an image of the same size."""
        return attrs.evolve(sample, inputs=levelled(sample.inputs, self.params.dark, self.params.light))


class Background(Processor):
    """Removes uneven brightness of the paper."""

    def __init__(self, params: BackgroundParams) -> None:
        self.params = params

    def process(self, sample: Sample) -> Sample:
        """Return an image of the same size."""
        return attrs.evolve(sample, inputs=without_background(sample.inputs, self.params.size))


PROCESSORS = {DewarpParams: Dewarp, LevelsParams: Levels, BackgroundParams: Background, CalamariParams: Calamari}
"""The processors by the class of their parameters."""


def dewarped(pixels: Array, smoothing: float, extent: float) -> Array:
    """Return an image whose center line is straight.

    Row r of the result is, in each column x, the gray value at the height c(x) + r - R, interpolated linearly between
    two pixels. Outside of the image it is paper. c is the `center_line`. The result has 2 R + 1 rows, where R is the
    mean distance of ink from the center line, times `extent`.

    Args:
        pixels: uint8 [height, width].
        smoothing: standard deviation of the Gaussian window of the center line, in heights.
        extent: half the height of the result, in mean distances.
    """
    ink, paper = _ink(pixels)
    if not ink.any():
        return pixels
    height, width = pixels.shape
    center = center_line(ink, smoothing * height)
    distance = np.abs(np.arange(height)[:, None] - center)
    radius = max(2, int(np.ceil(extent * (ink * distance).sum() / ink.sum())))
    # Bent lines may leave the image, but the result is never higher than needed for all of it.
    radius = min(radius, 2 * height)
    rows = np.arange(-radius, radius + 1)[:, None] + center
    padded = np.pad(pixels.astype(np.float64), ((1, 1), (0, 0)), constant_values=paper)
    rows = np.clip(rows + 1, 0, height + 1)
    upper = np.minimum(np.floor(rows).astype(np.intp), height)
    share = rows - upper
    columns = np.arange(width)
    values = (1 - share) * padded[upper, columns] + share * padded[upper + 1, columns]
    return np.rint(values).astype(np.uint8)


def levelled(pixels: Array, dark: float, light: float) -> Array:
    """Return 255 (p - a) / (b - a), limited to 0 and 255, where a and b are percentiles of the gray values p."""
    low, high = np.percentile(pixels, [dark, light])
    if high - low < LEAST_CONTRAST:
        return pixels
    return np.rint(255 * np.clip((pixels - low) / (high - low), 0, 1)).astype(np.uint8)


def without_background(pixels: Array, size: float) -> Array:
    """Return 255 p / B, at most 255, where B is the brightness of the paper.

    B is the morphological closing of the gray values p, which removes dark parts that are smaller than `size` heights
    in one direction, and then the mean of its values over a window of this size.
    """
    from scipy import ndimage

    window = [2 * (max(1, round(size * pixels.shape[0])) // 2) + 1] * 2
    paper = ndimage.grey_closing(pixels, window, mode="nearest").astype(np.float64)
    paper = ndimage.uniform_filter(paper, window, mode="nearest")
    return np.rint(np.clip(255.0 * pixels / np.maximum(paper, 1), 0, 255)).astype(np.uint8)


def _ink(pixels: Array) -> tuple[Array, float]:
    """Return the darkness of each pixel beyond the middle between ink and paper, and the gray value of the paper."""
    paper, darkest = float(np.median(pixels)), float(np.percentile(pixels, 1))
    if paper - darkest < LEAST_CONTRAST:
        return np.zeros(pixels.shape), paper
    return np.maximum(0, (paper + darkest) / 2 - pixels), paper
