"""Preparation of line images with the values that models of Calamari 2 were trained on."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from aip_plugin_ocr.calamari.params import CalamariParams
from aipcore.scenario import Processor, Sample

Array = np.ndarray[Any, np.dtype[Any]]


class Calamari(Processor):
    """Prepares lines for a model of Calamari 2; see `CalamariParams`."""

    def __init__(self, params: CalamariParams) -> None:
        self.params = params

    def process(self, sample: Sample) -> Sample:
        """Return uint8 [height, width with padding], where paper is 255, from uint8 [any height, any width]."""
        return attrs.evolve(sample, inputs=prepared(sample.inputs, self.params))


def prepared(pixels: Array, params: CalamariParams) -> Array:
    """Return the prepared image of a line.

    The center of a column is the row with the most ink in a blurred image, smoothed along the line. The band around it
    is scaled by the mean of the covered areas. The method is that of OCRopus (T. M. Breuel et al. (2013),
    High-performance OCR for printed English and Fraktur using LSTM networks).

    Args:
        pixels: dark ink on light paper, uint8 [height, width].
        params: the sizes.
    """
    band = centered_band(pixels, params)
    width = max(1, round(params.height * pixels.shape[1] / len(band)))
    scaled = resized(band, params.height, width)
    # Calamari divides by the brightest value, and cuts off the fraction of float32 values.
    light = scaled / np.float32(255)
    ink = ((1 - light / max(light.max(), np.float32(1 / 255))) * 255).astype(np.uint8)
    return np.pad(255 - ink, ((0, 0), (params.padding, params.padding)), constant_values=255)


def centered_band(pixels: Array, params: CalamariParams) -> Array:
    """Return the band around the center line, uint8 [rows, width], with paper outside of the image."""
    from scipy import ndimage

    height, width = pixels.shape
    paper = pixels.max()
    ink = (paper - pixels) / 255
    blurred = ndimage.gaussian_filter(ink, (0.5 * height, params.smoothing * height), mode="constant")
    # Between words far apart, the ink of the whole line decides.
    blurred += 0.001 * ndimage.uniform_filter(blurred, (max(1, height // 2), width), mode="constant")
    center = ndimage.gaussian_filter(blurred.argmax(axis=0).astype(np.float64), params.center_smoothing * height)
    if not ink.any():
        return pixels
    rows = np.rint(center).astype(int)
    radius = int(1 + params.extent * np.abs(np.arange(height)[:, None] - rows)[ink > 0].mean())
    places = rows + np.arange(-radius, radius)[:, None]
    found = np.take_along_axis(pixels, places.clip(0, height - 1), axis=0)
    return np.where((places >= 0) & (places < height), found, paper)


def resized(image: Array, height: int, width: int) -> Array:
    """Return a scaled uint8 image: by the mean of the covered areas, or if it is enlarged, by linear interpolation."""
    weights = _shares if len(image) >= height else _linear
    rows, columns = weights(image.shape[0], height), weights(image.shape[1], width)
    return np.rint(rows @ image.astype(np.float32) @ columns.T).clip(0, 255).astype(np.uint8)


def _shares(before: int, after: int) -> Array:
    """Return the share of each pixel of an axis in each new pixel, float32 [after, before]."""
    scale = before / after
    starts, pixels = np.arange(after)[:, None] * scale, np.arange(before)
    covered = np.minimum(starts + scale, pixels + 1) - np.maximum(starts, pixels)
    return (covered.clip(0) / scale).astype(np.float32)


def _linear(before: int, after: int) -> Array:
    """Return the weights of linear interpolation between the centers of pixels, float32 [after, before]."""
    places = ((np.arange(after) + 0.5) * before / after - 0.5).clip(0, before - 1)
    return (1 - np.abs(places[:, None] - np.arange(before))).clip(0).astype(np.float32)
