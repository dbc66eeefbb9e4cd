"""The scenario of image classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
from aip_plugins.scenarios.classes import checked_classes
from aip_plugins.scenarios.image_classification.params import ImageParams
from aip_plugins.scenarios.pretrained.params import Application, KerasHub

from aipcore.errors import DataError, UsageError
from aipcore.scenario import Evaluator, ListFileScenario, Sample, adapted_classes

MODES = {"gray": "L", "rgb": "RGB"}


class ImageClassification(ListFileScenario):
    """Classifies images by the name of their folder. Without lists, it trains on handwritten digits."""

    params_class = ImageParams
    params: ImageParams
    defaults: ClassVar[dict[str, Any]] = {
        "trainer.epochs": 15,
        "learning_rate": "CosineDecay",
        "learning_rate.lr": 0.003,
    }
    monitor = ("max", "accuracy")
    fixed = ("data.classes",)
    suffixes = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")

    def check(self) -> None:
        """Check the lists, and the files of a pretrained network.

        Raises:
            UsageError: one cannot be used.
        """
        super().check()
        if isinstance(graph := self.params.model.graph.params, Application | KerasHub):
            graph.check()

    def derived_params(self) -> ImageParams:
        """Return the parameters with the classes, by default the names of the folders.

        Raises:
            UsageError: the given classes or `top_k` cannot be used.
            DataError: there is only one class.
        """
        classes = checked_classes(self.params.data.classes, self._found_classes)
        most = max(self.params.data.top_k, default=0)
        if most > len(classes):
            raise UsageError(f"--data.top_k {most} is more than the {len(classes)} classes. Use a smaller number.")
        return attrs.evolve(self.params, data=attrs.evolve(self.params.data, classes=classes))

    def _found_classes(self) -> list[str]:
        if self.params.train.lists:
            return sorted({path.parent.name for path in self.paths(self.params.train.lists, "train")})
        return [str(digit) for digit in range(10)]

    def adapt_weights(self, path: str, source: Any, fresh: Any, before: Mapping[str, Any] | None) -> Any:
        """Return the weights of the output layer, in which known classes keep those of the source."""
        if path.rpartition("/")[0] not in ("classes", "predictions") or before is None:
            return None
        return adapted_classes(source, fresh, before.get("data.classes"), self.params.data.classes)

    def own_train_data(self) -> Any:
        """Return the digits of the tutorial, as images."""
        return _digits(0)

    def own_val_data(self) -> Any:
        """Return the held-out digits."""
        return _digits(1)

    def train_data(self) -> Any:
        """Return the training images, after checking that their classes are known."""
        return self._known(super().train_data(), "training")

    def val_data(self) -> Any:
        """Return the validation images, after checking that their classes are known."""
        return self._known(super().val_data(), "validation")

    def lav_data(self) -> Mapping[str, Any] | None:
        """Return the images of each list, after checking that their classes are known."""
        lists = super().lav_data()
        return lists and {name: self._known(data, name) for name, data in lists.items()}

    def predict_data(self) -> Any:
        """Return the images of `data.files` or of the validation data, without reading their classes."""
        return super().predict_data() if self.params.data.files else super().val_data()

    def _known(self, data: Any, what: str) -> Any:
        """Return the data, after checking that the class of each image is known to the model.

        Raises:
            DataError: an image has another class.
        """
        classes = self.params.data.classes
        unknown = [path for path in getattr(data, "paths", ()) if path.parent.name not in classes]
        if unknown:
            raise DataError(
                f"{len(unknown)} of {len(data.paths)} images ({what}) have classes other than {', '.join(classes)}: "
                f"{unknown[0]} has {unknown[0].parent.name!r}. Give all classes in --data.classes, or leave "
                "out the images."
            )
        return data

    def read(self, path: Path, *, targets: bool) -> Sample:
        """Return an image, and the name of its folder as its class."""
        from aip_plugins.scenarios.image_file import read_image

        pixels = read_image(path, MODES[self.params.data.colors])
        return Sample(inputs=pixels, targets=path.parent.name if targets else None, meta={"path": str(path)})

    def processors(self) -> Sequence[Any]:
        """Return the processors: crop in training, scale, augment in training, normalize; encode the class."""
        from aip_plugins.scenarios.image_classification import processors

        data = self.params.data
        crop = [processors.Crop(data.crop)] if data.crop < 1 else []
        augment: list[Any] = []
        if data.flip or data.shift or data.rotate or data.contrast:
            augment.append(processors.Augment(data))
        if data.erase:
            augment.append(processors.Erase(data.erase))
        last = [processors.Normalize(), processors.EncodeClass(data.classes)]
        return [*crop, processors.Resize(data.height, data.width), *augment, *last]

    def post_processors(self) -> Sequence[Any]:
        """Return the post-processor for the most probable class."""
        from aip_plugins.scenarios.image_classification.processors import DecodeClass

        return [DecodeClass(self.params.data.classes)]

    def build(self, inputs: Any) -> Any:
        """Return the logits of images."""
        from aip_plugins.scenarios.image_classification.networks import logits

        return {"class": logits(inputs["image"], self.params.model.graph.params, len(self.params.data.classes))}

    def losses(self) -> Any:
        """Return the cross-entropy loss."""
        import keras

        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self) -> Any:
        """Return the accuracies."""
        from keras.metrics import SparseCategoricalAccuracy, SparseTopKCategoricalAccuracy

        further = [SparseTopKCategoricalAccuracy(k, name=f"top_{k}_accuracy") for k in self.params.data.top_k]
        return [SparseCategoricalAccuracy(name="accuracy"), *further]

    def evaluator(self) -> Evaluator:
        """Return a confusion evaluator."""
        from aip_plugins.scenarios.tutorial.evaluator import ConfusionEvaluator

        classes = self.params.data.classes
        return ConfusionEvaluator(len(classes), "class", classes)

    def describe(self, targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[str, str]:
        """Return the names of both classes."""
        return self.params.data.classes[int(targets["class"])], str(outputs["class"])


def _digits(part: int) -> list[Sample]:
    import numpy as np
    from aip_plugins.scenarios.tutorial.datasets import load

    images, labels = load("digits")[part]
    pixels = np.round(images * 255).astype(np.uint8)
    return [Sample(inputs=image, targets=str(label)) for image, label in zip(pixels, labels, strict=True)]
