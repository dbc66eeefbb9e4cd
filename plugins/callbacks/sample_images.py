"""A callback that shows validation images with the model's predictions."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from aip_plugins.callbacks.due import due
from aip_plugins.callbacks.observe_params import SampleImagesParams
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from aipcore.data.dataset import Batch
from aipcore.errors import UsageError
from aipcore.params.names import count
from aipcore.scenario.summaries import Image
from aipcore.training.callbacks.context import RunContext

WIDTH = 420
"""Approximate width of a picture in pixels: TensorBoard shows little more, and the text must stay readable."""

LEAST, MOST = 96, 400
"""Image sizes in pixels: smaller images are enlarged to the first, and the second is the greatest height."""

LEGEND = "the target, and below it the prediction, green if both agree."
LINE, MARGIN = 16, 6
RIGHT, WRONG, PLAIN, PAPER = (0, 110, 40), (190, 20, 20), (60, 60, 60), (255, 255, 255)
CHANNELS = (1, 3, 4)

Array = npt.NDArray[Any]


class SampleImages(keras.callbacks.Callback):
    """Samples in one picture, each with its target and its prediction, in green if they agree, else in red.

    The samples are always the same. Predictions use the EMA of the weights if there is one.
    """

    def __init__(self, params: SampleImagesParams, context: RunContext) -> None:
        super().__init__()
        self.samples = params
        self.context = context
        self._rows: Batch | None = None
        self._name = ""

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Read the samples.

        Raises:
            UsageError: there are no validation data, or no input is an image.
        """
        self._rows = self.context.probe.validation_samples(self.samples.count)
        if self._rows is None:
            raise UsageError(
                "The callback SampleImages needs validation data, but there is none. Leave out the callback."
            )
        self._name = self._input(self._rows.inputs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Draw the picture in due epochs."""
        rows, context = self._rows, self.context
        if rows is None or not context.is_chief or not due(self, context, epoch, self.samples.every_n_epochs):
            return
        outputs = context.probe.outputs(rows.inputs)
        texts = context.probe.descriptions(rows, outputs)
        pixels = picture(as_pixels(self._images(rows.inputs[self._name]), invert=self.samples.invert), texts)
        right = sum(target == answer for target, answer in texts)
        record = Image("samples", pixels, text=f"{count(len(texts), 'validation sample')}: {LEGEND}")
        context.events.summaries("validation", epoch + 1, [record])
        context.events.scalars("validation", epoch + 1, {"samples/right": right / len(texts)})

    def _images(self, column: Array) -> Array:
        images = column if column.ndim == 4 else column[..., None]
        return images.swapaxes(1, 2) if self.samples.transpose else images

    def _input(self, inputs: dict[str, Array]) -> str:
        given = self.samples.input
        fitting = [name for name, column in inputs.items() if _is_image(column)]
        shapes = ", ".join(f"{name or 'the input'} {tuple(column.shape[1:])}" for name, column in inputs.items())
        if given is not None and given not in fitting:
            raise UsageError(
                f"--callbacks.SampleImages.input {given} is not an image of shape [height, width] or [height, width, "
                f"1|3|4]. Input shapes: {shapes}."
            )
        if given is None and len(fitting) != 1:
            found = "several inputs are images" if fitting else "no input of this scenario is an image"
            then = "Choose one with --callbacks.SampleImages.input" if fitting else "Leave out the callback"
            raise UsageError(f"The callback SampleImages shows images, but {found} ({shapes}). {then}.")
        return given if given is not None else fitting[0]


def _is_image(column: Array) -> bool:
    is_number = column.dtype.kind in ("b", "u", "f") or column.dtype.name == "bfloat16"
    shape = column.shape[1:]
    has_size = len(shape) >= 2 and min(shape[:2]) > 1
    return is_number and has_size and (len(shape) == 2 or (len(shape) == 3 and shape[2] in CHANNELS))


def as_pixels(images: Array, *, invert: bool = False) -> Array:
    """Return images as uint8.

    Args:
        images: shape [images, height, width, channels]: uint8, bool, or numbers, read as 0 to 1, or as 0 to 255 if
            they are in that range, or else scaled from the smallest to the largest.
        invert: True to swap black and white.
    """
    if images.dtype != np.uint8:
        values = np.nan_to_num(images.astype(np.float32))
        low, high = float(values.min()), float(values.max())
        if low >= 0 and high <= 255:
            low, high = 0.0, 1.0 if high <= 1 else 255.0
        images = ((values - low) / max(high - low, 1e-12) * 255).round().astype(np.uint8)
    return 255 - images if invert else images


def picture(images: Array, texts: list[tuple[str, str]]) -> Array:
    """Return a grid of images, each above its target and its prediction.

    Args:
        images: uint8, shape [images, height, width, channels].
        texts: target and prediction of each image.

    Returns:
        uint8, shape [height, width, 3].
    """
    _, height, width, channels = images.shape
    zoom = max(1, LEAST // max(height, width))
    scale = min(float(zoom), WIDTH / width, MOST / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    cell = max(size[0], LEAST) + MARGIN, size[1] + 2 * LINE + 2 * MARGIN
    columns = max(1, min(len(images), WIDTH // cell[0]))
    rows = -(-len(images) // columns)
    canvas = Picture.new("RGB", (columns * cell[0] + MARGIN, rows * cell[1] + MARGIN), PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(LINE - 3)
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    resample = Picture.Resampling.NEAREST if scale >= 1 else Picture.Resampling.BILINEAR
    for number, (image, (target, answer)) in enumerate(zip(images, texts, strict=True)):
        left, top = MARGIN + number % columns * cell[0], MARGIN + number // columns * cell[1]
        pixels = Picture.fromarray(image[..., 0] if channels == 1 else image, mode).convert("RGB")
        canvas.paste(pixels.resize(size, resample), (left, top))
        draw.rectangle((left - 1, top - 1, left + size[0], top + size[1]), outline=(200, 200, 200))
        below, room = top + size[1] + 2, cell[0] - MARGIN
        draw.text((left, below), _fitting(draw, font, target, room), PLAIN, font)
        colour = RIGHT if target == answer else WRONG
        draw.text((left, below + LINE), _fitting(draw, font, answer, room), colour, font)
    return np.asarray(canvas)


def _fitting(draw: Any, font: Any, text: str, room: int) -> str:
    """Return the text in one line, cut to the available width."""
    text = " ".join(text.split()) or "(nothing)"
    if draw.textlength(text, font) <= room:
        return text
    while text and draw.textlength(text + "...", font) > room:
        text = text[:-1]
    return text + "..."


def build(params: SampleImagesParams, context: RunContext) -> SampleImages:
    """Return the callback."""
    return SampleImages(params, context)
