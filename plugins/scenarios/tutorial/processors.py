"""How the tutorial's images are varied."""

from __future__ import annotations

import attrs
import numpy as np

from aipcore.scenario import RandomProcessor, Sample


class RandomShift(RandomProcessor):
    """Shifts an image by up to `pixels` in each direction; what moves in is 0."""

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Takes `image` of shape [height, width]."""
        image = sample.inputs["image"]
        height, width = image.shape
        down, right = rng.integers(-self.pixels, self.pixels + 1, 2).tolist()
        shifted = np.zeros_like(image)
        shifted[max(down, 0) : height + down, max(right, 0) : width + right] = image[
            max(-down, 0) : height - down, max(-right, 0) : width - right
        ]
        return attrs.evolve(sample, inputs={**sample.inputs, "image": shifted})
