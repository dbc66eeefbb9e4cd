"""From an image file's pixels to what the network sees, and from logits to a class."""

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
    """Scales images to one size, whatever their proportions."""

    def __init__(self, height: int, width: int) -> None:
        self.height = height
        self.width = width

    def process(self, sample: Sample) -> Sample:
        """A uint8 image of any size to uint8 [height, width, channels]."""
        image = Image.fromarray(sample.inputs).resize((self.width, self.height), Image.Resampling.BILINEAR)
        return attrs.evolve(sample, inputs=np.atleast_3d(np.asarray(image)))


class Augment(RandomProcessor):
    """Flips, moves, turns and changes the contrast."""

    def __init__(self, params: ImageData) -> None:
        self.params = params

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """A uint8 image of shape [height, width, channels] to another one."""
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


class Normalize(Processor):
    """Pixels from 0 to 1."""

    def process(self, sample: Sample) -> Sample:
        """uint8 to float32."""
        return attrs.evolve(sample, inputs={"image": sample.inputs.astype(np.float32) / 255})


class EncodeClass(Processor):
    """The name of the class as a number, int32 []."""

    modes = frozenset({Mode.TRAINING, Mode.EVALUATION, Mode.TARGETS})

    def __init__(self, classes: Sequence[str]) -> None:
        self.numbers = {name: number for number, name in enumerate(classes)}

    def process(self, sample: Sample) -> Sample:
        """A name to its number."""
        if sample.targets not in self.numbers:
            raise DataError(
                f"The class {sample.targets!r} is none of {', '.join(self.numbers)}: add it to --data.classes."
            )
        return attrs.evolve(sample, targets={"class": np.int32(self.numbers[sample.targets])})


class DecodeClass(PostProcessor):
    """The most probable class."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = list(classes)

    def process(self, outputs: dict[str, Any], meta: Any) -> dict[str, Any]:
        """Logits of shape [classes] to the name `class` and its `probability`."""
        del meta
        logits = outputs["class"].astype(np.float64)
        weights = np.exp(logits - logits.max())
        best = int(logits.argmax())
        return {"class": self.classes[best], "probability": float(weights[best] / weights.sum())}
