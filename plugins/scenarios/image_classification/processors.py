"""Preprocessing of images and classes, and post-processing of logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from aip_plugins.scenarios.image_classification.params import ImageData
from PIL import Image

from aipcore.errors import DataError
from aipcore.scenario import Mode, PostProcessor, Processor, RandomProcessor, Sample


class Resize(Processor):
    """Scales images to one size, without keeping their proportions."""

    def __init__(self, height: int, width: int) -> None:
        self.height = height
        self.width = width

    def process(self, sample: Sample) -> Sample:
        """Return a uint8 image of shape [height, width, channels], from one of any size."""
        image = Image.fromarray(sample.inputs).resize((self.width, self.height), Image.Resampling.BILINEAR)
        return attrs.evolve(sample, inputs=np.atleast_3d(np.asarray(image)))


class Augment(RandomProcessor):
    """Random flips, shifts, rotations and changes of contrast."""

    def __init__(self, params: ImageData) -> None:
        self.params = params

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return a changed uint8 image of shape [height, width, channels]."""
        pixels = sample.inputs
        height, width, channels = pixels.shape
        image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
        if self.params.flip and rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        limit = self.params.shift
        moved = (rng.uniform(-limit, limit) * width, rng.uniform(-limit, limit) * height)
        image = image.rotate(
            rng.uniform(-self.params.rotate, self.params.rotate), resample=Image.Resampling.BILINEAR, translate=moved
        )
        changed = np.atleast_3d(np.asarray(image, np.float32))
        changed = changed * rng.uniform(1 - self.params.contrast, 1 + self.params.contrast)
        return attrs.evolve(sample, inputs=np.clip(changed, 0, 255).astype(np.uint8))


class Crop(RandomProcessor):
    """A random part of an image (`RandomResizedCrop`: Szegedy et al., "Going Deeper with Convolutions", 2015).

    Args:
        least: the smallest share of the area.
    """

    def __init__(self, least: float) -> None:
        self.least = least

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return a part of a uint8 image of shape [height, width] or [height, width, channels]."""
        pixels = sample.inputs
        return attrs.evolve(sample, inputs=pixels[_rectangle(pixels, rng, (self.least, 1), 4 / 3)])


class Erase(RandomProcessor):
    """A gray rectangle on some images (Zhong et al., "Random Erasing Data Augmentation", 2020).

    Its area is 2% to 33% of the image, and its proportions are up to 3:1 of those of the image.

    Args:
        probability: the share of the images that are changed.
    """

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return a changed uint8 image of shape [height, width, channels]."""
        if rng.random() >= self.probability:
            return sample
        pixels = sample.inputs.copy()
        pixels[_rectangle(pixels, rng, (0.02, 0.33), 3)] = 128
        return attrs.evolve(sample, inputs=pixels)


def _rectangle(
    pixels: np.ndarray[Any, Any], rng: np.random.Generator, areas: tuple[float, float], stretched: float
) -> tuple[slice, slice]:
    """Return the rows and columns of a random rectangle.

    Args:
        pixels: an image of shape [height, width, ...].
        rng: the generator of the sample.
        areas: the smallest and the largest share of the image's area.
        stretched: the largest ratio of its proportions and those of the image.
    """
    side = np.sqrt(rng.uniform(*areas))
    stretch = np.exp(rng.uniform(-0.5, 0.5) * np.log(stretched))
    whole = np.array(pixels.shape[:2])
    size = np.clip(np.round(whole * side * [stretch, 1 / stretch]), 1, whole).astype(int)
    top, left = rng.integers(0, whole - size + 1)
    return slice(top, top + size[0]), slice(left, left + size[1])


class Normalize(Processor):
    """Scales pixels to the range from 0 to 1."""

    def process(self, sample: Sample) -> Sample:
        """Return float32 pixels from uint8."""
        return attrs.evolve(sample, inputs={"image": sample.inputs.astype(np.float32) / 255})


class EncodeClass(Processor):
    """Converts the name of the class to a number, int32 []."""

    modes = frozenset({Mode.TRAINING, Mode.EVALUATION, Mode.TARGETS})

    def __init__(self, classes: Sequence[str]) -> None:
        self.numbers = {name: number for number, name in enumerate(classes)}

    def process(self, sample: Sample) -> Sample:
        """Return the number of the class name."""
        if sample.targets not in self.numbers:
            raise DataError(
                f"The class {sample.targets!r} is not one of {', '.join(self.numbers)}. Add it to --data.classes."
            )
        return attrs.evolve(sample, targets={"class": np.int32(self.numbers[sample.targets])})


class DecodeClass(PostProcessor):
    """Decodes logits to the most probable class."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = list(classes)

    def process(self, outputs: dict[str, Any], meta: Any) -> dict[str, Any]:
        """Return the name `class` and its `probability`, from logits of shape [classes]."""
        del meta
        logits = outputs["class"].astype(np.float64)
        weights = np.exp(logits - logits.max())
        best = int(logits.argmax())
        return {"class": self.classes[best], "probability": float(weights[best] / weights.sum())}
