"""The scenario of image classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
from aip_plugins.scenarios.image_classification.params import ImageParams

from aipcore.errors import DataError
from aipcore.scenario import Evaluator, ListFileScenario, Sample

MODES = {"gray": "L", "rgb": "RGB"}


class ImageClassification(ListFileScenario):
    """Tells images apart by the folders they lie in; without lists it learns handwritten digits."""

    params_class = ImageParams
    params: ImageParams
    defaults: ClassVar[dict[str, Any]] = {
        "trainer.epochs": 15,
        "learning_rate": "CosineDecay",
        "learning_rate.lr": 0.003,
    }
    monitor = ("max", "accuracy")
    suffixes = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")

    def derived_params(self) -> ImageParams:
        """The classes, which are the names of the folders if none are given."""
        if self.params.data.classes:
            return self.params
        if self.params.train.lists:
            classes = sorted({path.parent.name for path in self.paths(self.params.train.lists, "train")})
        else:
            classes = [str(digit) for digit in range(10)]
        return attrs.evolve(self.params, data=attrs.evolve(self.params.data, classes=tuple(classes)))

    def own_train_data(self) -> Any:
        """The digits of the tutorial, as images."""
        return _digits(0)

    def own_val_data(self) -> Any:
        """The held-out digits."""
        return _digits(1)

    def train_data(self) -> Any:
        """The images to learn from, whose classes are all known."""
        return self._known(super().train_data(), "training")

    def val_data(self) -> Any:
        """The images to validate with, whose classes are all known."""
        return self._known(super().val_data(), "validation")

    def lav_data(self) -> Mapping[str, Any] | None:
        """The images of each list, whose classes are all known."""
        lists = super().lav_data()
        return lists and {name: self._known(data, name) for name, data in lists.items()}

    def predict_data(self) -> Any:
        """The images of `data.files` or of the validation data, whose classes are not read."""
        return super().predict_data() if self.params.data.files else super().val_data()

    def _known(self, data: Any, what: str) -> Any:
        """Return the data, if a class for each image is among those that the model tells apart.

        Raises:
            DataError: an image is of another class.
        """
        classes = self.params.data.classes
        unknown = [path for path in getattr(data, "paths", ()) if path.parent.name not in classes]
        if unknown:
            raise DataError(
                f"{len(unknown)} of {len(data.paths)} images ({what}) are of other classes than {', '.join(classes)}: "
                f"{unknown[0]} is of {unknown[0].parent.name!r}. Give --data.classes, or leave them out."
            )
        return data

    def read(self, path: Path, *, targets: bool) -> Sample:
        """An image, and the name of its folder."""
        from aip_plugins.scenarios.image_file import read_image

        pixels = read_image(path, MODES[self.params.data.colors])
        return Sample(inputs=pixels, targets=path.parent.name if targets else None, meta={"path": str(path)})

    def processors(self) -> Sequence[Any]:
        """Scale, augment in training, normalise; the class as a number."""
        from aip_plugins.scenarios.image_classification.processors import Augment, EncodeClass, Normalize, Resize

        data = self.params.data
        augment = [Augment(data)] if data.flip or data.shift or data.rotate or data.contrast else []
        return [Resize(data.height, data.width), *augment, Normalize(), EncodeClass(data.classes)]

    def post_processors(self) -> Sequence[Any]:
        """The most probable class."""
        from aip_plugins.scenarios.image_classification.processors import DecodeClass

        return [DecodeClass(self.params.data.classes)]

    def build(self, inputs: Any) -> Any:
        """Images to logits."""
        from aip_plugins.scenarios.image_classification.networks import logits

        return {"class": logits(inputs["image"], self.params.model.graph.params, len(self.params.data.classes))}

    def losses(self) -> Any:
        """Cross-entropy."""
        import keras

        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self) -> Any:
        """Accuracy."""
        import keras

        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def evaluator(self) -> Evaluator:
        """What is confused with what."""
        from aip_plugins.scenarios.tutorial.evaluator import ConfusionEvaluator

        classes = self.params.data.classes
        return ConfusionEvaluator(len(classes), "class", classes)

    def describe(self, targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[str, str]:
        """The names of both classes."""
        return self.params.data.classes[int(targets["class"])], str(outputs["class"])


def _digits(part: int) -> list[Sample]:
    import numpy as np
    from aip_plugins.scenarios.tutorial.datasets import load

    images, labels = load("digits")[part]
    pixels = np.round(images * 255).astype(np.uint8)
    return [Sample(inputs=image, targets=str(label)) for image, label in zip(pixels, labels, strict=True)]
