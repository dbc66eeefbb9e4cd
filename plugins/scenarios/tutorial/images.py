"""Images of digits from files, and the model's prediction in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from aip_plugins.scenarios.image_file import read_image
from aip_plugins.scenarios.tutorial.datasets import SIZES
from PIL import Image

from aipcore.errors import DataError
from aipcore.scenario import PostProcessor, Sample


@attrs.frozen(eq=False)
class ImageFiles:
    """Images read from files on demand: PNG and similar formats, or arrays in `.npy` files.

    Attributes:
        paths: the image files.
        dataset: the dataset that the model was trained on.
    """

    paths: Sequence[Path]
    dataset: str

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        path = self.paths[index]
        pixels = _array(path) if path.suffix == ".npy" else read_image(path, "L").astype(np.float32) / np.float32(255)
        return Sample(inputs={"image": _scaled(pixels, SIZES[self.dataset])}, meta={"path": str(path)})


def _array(path: Path) -> npt.NDArray[np.float32]:
    try:
        # A mapped file cannot claim more numbers than it holds.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"The array {path} cannot be read ({error}). Fix it, or leave it out.") from error
    if array.ndim != 2 or array.dtype.kind not in "uif" or 0 in array.shape:
        raise DataError(
            f"The array {path} has shape {array.shape} and dtype {array.dtype}. Use numbers of shape [height, width]."
        )
    white = 1 if array.dtype.kind == "f" else 65_535 if array.dtype == np.uint16 else 255
    # NaN is not in the range either.
    if not ((array >= 0) & (array <= white)).all():
        raise DataError(f"The array {path} has {array.dtype} values outside 0 to {white}. Scale them to that range.")
    return array.astype(np.float32) / np.float32(white)


def _scaled(pixels: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    if pixels.shape == (size, size):
        return pixels
    image = Image.fromarray(pixels).resize((size, size), Image.Resampling.BOX)
    return np.asarray(image, np.float32)


class NameDigit(PostProcessor):
    """Decodes logits to the most probable digit and its probability."""

    def process(self, outputs: dict[str, Any], meta: Any) -> dict[str, Any]:
        """Return `digit` and `probability` from logits of shape [10]."""
        del meta
        logits = outputs["digit"].astype(np.float64)
        weights = np.exp(logits - logits.max())
        best = int(logits.argmax())
        return {"digit": best, "probability": float(weights[best] / weights.sum())}
