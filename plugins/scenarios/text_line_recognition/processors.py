"""Preprocessing of line images and texts, and post-processing to text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import attrs
import numpy as np
from aip_plugins.scenarios.text_line_recognition.codec import Codec
from PIL import Image, ImageFilter

from aipcore.errors import DataError
from aipcore.scenario import Mode, PostProcessor, Processor, RandomProcessor, Sample


class ScaleToHeight(Processor):
    """Scales a line to one height, keeping its proportions."""

    def __init__(self, height: int) -> None:
        self.height = height

    def process(self, sample: Sample) -> Sample:
        """Return a uint8 image of shape [height, scaled width], from one of shape [any, width]."""
        image = Image.fromarray(sample.inputs)
        width = max(1, round(image.width * self.height / image.height))
        scaled = image.resize((width, self.height), Image.Resampling.BILINEAR)
        return attrs.evolve(sample, inputs=np.asarray(scaled))


def steps_of(text: Sequence[Any]) -> int:
    """Return the fewest steps for a text: CTC needs one for each character, and one between two equal ones."""
    return len(text) + sum(a == b for a, b in pairwise(text))


class Distort(RandomProcessor):
    """Slight random stretching, shearing, blur and noise. A line never becomes too narrow for its text.

    Args:
        stride: pixels of the line per step of the network.
    """

    def __init__(self, stride: int = 1) -> None:
        self.stride = stride

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return a distorted uint8 image of the same height."""
        image = Image.fromarray(sample.inputs)
        needed = (steps_of(sample.targets) - 1) * self.stride + 1
        stretched = max(1, min(needed, image.width), round(image.width * rng.uniform(0.9, 1.1)))
        image = image.resize((stretched, image.height), Image.Resampling.BILINEAR)
        shear = rng.uniform(-0.15, 0.15)
        image = image.transform(
            image.size, Image.Transform.AFFINE, (1, shear, -shear * image.height / 2, 0, 1, 0),
            resample=Image.Resampling.BILINEAR, fillcolor=255,
        )  # fmt: skip
        if rng.random() < 0.3:
            image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
        noisy = np.asarray(image, np.float32) + rng.normal(0, rng.uniform(0, 10), (image.height, image.width))
        return attrs.evolve(sample, inputs=np.clip(noisy, 0, 255).astype(np.uint8))


class Normalize(Processor):
    """Converts ink to 1 and paper to 0, with the line along the first axis, and adds the width."""

    def process(self, sample: Sample) -> Sample:
        """Return float32 [width, height, 1] and the width, int32 [1], from a uint8 image of shape [height, width]."""
        ink = 1 - sample.inputs.astype(np.float32) / 255
        columns = np.ascontiguousarray(ink.T)[:, :, None]
        return attrs.evolve(sample, inputs={"image": columns, "width": np.array([len(columns)], np.int32)})


class RefuseUnknown(Processor):
    """Checks that the alphabet contains all characters of a training text: a model cannot learn others."""

    modes = frozenset({Mode.TRAINING})

    def __init__(self, codec: Codec) -> None:
        self.codec = codec

    def process(self, sample: Sample) -> Sample:
        """Return the sample unchanged.

        Raises:
            DataError: a character is not in the alphabet.
        """
        for character in sample.targets:
            if character not in self.codec.alphabet:
                raise DataError(
                    f"The character {character!r} of {sample.targets!r} is not in the alphabet. Add it to the codec, "
                    "or leave out the line."
                )
        return sample


class Encode(Processor):
    """Converts the text to numbers, and adds it to the meta as `truth`; without targets there is no text.

    Args:
        codec: the alphabet of the model.
        stride: pixels of the line per step of the network.
    """

    modes = frozenset({Mode.TRAINING, Mode.EVALUATION, Mode.TARGETS})

    def __init__(self, codec: Codec, stride: int) -> None:
        self.codec = codec
        self.stride = stride

    def process(self, sample: Sample) -> Sample:
        """Return the numbers of the text, int32 [characters].

        Raises:
            DataError: the image is too narrow for `steps_of` the text. Characters outside the alphabet need none.
        """
        numbers = self.codec.encode(sample.targets)
        needed = steps_of([number for number in numbers if number < self.codec.classes])
        if isinstance(sample.inputs, dict) and needed * self.stride > len(sample.inputs["image"]) + self.stride - 1:
            raise DataError(
                f"An image of width {len(sample.inputs['image'])} is too narrow for the text {sample.targets!r}, which "
                f"needs {needed * self.stride} pixels. Fix the text, or scale lines to a greater --data.height."
            )
        meta = {"truth": sample.targets, **sample.meta} if isinstance(sample.meta, dict) else sample.meta
        return attrs.evolve(sample, targets={"text": np.array(numbers, np.int32)}, meta=meta)


class Decode(PostProcessor):
    """Decodes the outputs to text.

    Args:
        reader: the decoder; see `TextLineRecognition.reader`.
    """

    def __init__(self, reader: Any) -> None:
        self.reader = reader

    def process(self, outputs: dict[str, Any], meta: Any) -> dict[str, Any]:
        """Return `text`, `confidence` and `confidences` (see `Reading`) from logits of shape [steps, classes]."""
        del meta
        return attrs.asdict(self.reader.read(outputs["text"]))
