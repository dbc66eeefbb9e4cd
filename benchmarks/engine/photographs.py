"""Photographs from JPEG files, augmented in training: each framework reads them as its users do."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from engine.models import Task, cross_entropy

SIZE, CLASSES = 96, 10
SHIFT, DEGREES, CONTRAST = 0.05, 10.0, 0.1
WORKERS = 2
"""Worker processes of PyTorch's loader."""


def folder(count: int) -> Path:
    """Return a folder with a folder of JPEG files for each class. It is made once and kept."""
    from PIL import Image

    place = Path(tempfile.gettempdir()) / f"aip-benchmarks-photographs-{count}"
    if place.exists():
        return place
    random = np.random.default_rng(0)
    made = Path(tempfile.mkdtemp(dir=place.parent))
    means = random.uniform(60, 200, (CLASSES, 12, 12, 3))
    for number in range(count):
        label = number % CLASSES
        coarse = np.clip(means[label] + random.normal(0, 40, (12, 12, 3)), 0, 255).astype(np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32)
        pixels = np.clip(smooth + random.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)
        path = made / f"class_{label}" / f"{number:05}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path, quality=85)
    try:
        made.rename(place)
    except OSError:  # Another process was faster.
        shutil.rmtree(made)
    return place


def network(inputs: Any) -> Any:
    """Build the CNN of `image_classification`."""
    from aip_plugins.scenarios.image_classification.networks import logits
    from aip_plugins.scenarios.image_classification.params import CNN

    return logits(inputs["image"], CNN(), CLASSES)


@attrs.frozen(kw_only=True, eq=False)
class Photographs(Task):
    """Files of photographs."""

    batch_size: int = 32
    samples: int = 2_000
    data: Any = None
    build: Any = attrs.field(default=network)
    loss: Any = attrs.field(default=cross_entropy)
    torch: str = "photographs"

    def symbolic(self) -> dict[str, Any]:
        """Return an image."""
        import keras

        return {"image": keras.Input((SIZE, SIZE, 3), name="image")}

    def scenario(self) -> tuple[Any, dict[str, Any]]:
        """Return `image_classification`."""
        from aip_plugins.scenarios.image_classification.scenario import ImageClassification

        return ImageClassification, {
            "data.height": SIZE, "data.width": SIZE, "data.colors": "rgb", "data.flip": True, "data.shift": SHIFT,
            "data.rotate": DEGREES, "data.contrast": CONTRAST, "train.lists": [str(folder(self.samples))],
            "train.shuffle": True,
        }  # fmt: skip

    def fit_arguments(self) -> dict[str, Any]:
        """Return Keras' dataset of a folder, with cache, augmentation in parallel, and prefetch."""
        import keras
        import tensorflow as tf

        read = keras.utils.image_dataset_from_directory(
            folder(self.samples), image_size=(SIZE, SIZE), batch_size=self.batch_size, seed=1, verbose=False
        )
        augment = keras.Sequential([
            keras.layers.RandomFlip("horizontal"), keras.layers.RandomTranslation(SHIFT, SHIFT),
            keras.layers.RandomRotation(DEGREES / 360), keras.layers.RandomContrast(CONTRAST),
            keras.layers.Rescaling(1 / 255),
        ])  # fmt: skip
        ready = read.cache().map(
            lambda image, label: ({"image": augment(image, training=True)}, label), num_parallel_calls=tf.data.AUTOTUNE
        )
        return {"x": ready.prefetch(tf.data.AUTOTUNE)}

    def torch_batches(self, device: str) -> Iterable[Any]:
        """Return a loader with worker processes, which share the decoded images."""
        import torch
        from PIL import Image

        paths = sorted(folder(self.samples).glob("*/*.jpg"))
        images = [Image.open(path).convert("RGB") for path in paths]
        labels = [int(path.parent.name.rpartition("_")[2]) for path in paths]

        class Augmented(torch.utils.data.Dataset):  # type: ignore[misc, name-defined]
            def __len__(self) -> int:
                return len(images)

            def __getitem__(self, index: int) -> Any:
                flip, *others = (2 * torch.rand(5) - 1).tolist()
                image = images[index]
                if flip < 0:
                    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                moved = tuple(SIZE * SHIFT * other for other in others[:2])
                image = image.rotate(DEGREES * others[2], resample=Image.Resampling.BILINEAR, translate=moved)
                pixels = np.asarray(image, np.float32) * (1 + CONTRAST * others[3])
                return np.clip(pixels, 0, 255) / np.float32(255), labels[index]

        return torch.utils.data.DataLoader(
            Augmented(), self.batch_size, shuffle=True, num_workers=WORKERS, persistent_workers=True
        )
