"""Augmentation of the tutorial's images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from aipcore.scenario import RandomBatchProcessor, SampleBatch

if TYPE_CHECKING:
    from aipcore.data.random import BatchRandom


class RandomShift(RandomBatchProcessor):
    """Shifts an image at random by up to `pixels` in each direction, filled with 0."""

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels

    def process(self, batch: SampleBatch, random: BatchRandom) -> SampleBatch:
        """Shift the input `image` of shape [n, height, width]."""
        images = batch.inputs["image"]
        count, height, width = images.shape
        frame = self.pixels
        framed = np.zeros((count, height + 2 * frame, width + 2 * frame), images.dtype)
        framed[:, frame : frame + height, frame : frame + width] = images
        first = random.integers(0, 2 * frame + 1, 2)
        rows = first[:, :1] + np.arange(height)
        columns = first[:, 1:] + np.arange(width)
        shifted = framed[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
        return attrs.evolve(batch, inputs={**batch.inputs, "image": shifted})
