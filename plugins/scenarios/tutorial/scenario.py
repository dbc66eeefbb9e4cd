"""The tutorial scenario."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from aip_plugins.scenarios.tutorial.params import TutorialParams

from aipcore.scenario import Evaluator, PostProcessor, RandomBatchProcessor, Scenario, Summary, matching_files


class Tutorial(Scenario):
    """Classifies handwritten digits."""

    params_class = TutorialParams
    params: TutorialParams
    defaults: ClassVar[dict[str, Any]] = {"trainer.epochs": 20}
    monitor = ("max", "accuracy")

    def train_data(self) -> Any:
        """Return images (float32, [samples, height, width], from 0 to 1) and labels (int32, [samples])."""
        return self._part(0)

    def val_data(self) -> Any:
        """Return the held-out part, in the same form."""
        return self._part(1)

    def predict_data(self) -> Any:
        """Return the images of `data.files`, or the held-out digits."""
        if not self.params.data.files:
            return self.val_data()
        from aip_plugins.scenarios.tutorial.images import ImageFiles

        return ImageFiles(matching_files(self.params.data.files), self.params.data.dataset)

    def post_processors(self) -> Sequence[PostProcessor]:
        """Return the post-processor for the digit and its probability."""
        from aip_plugins.scenarios.tutorial.images import NameDigit

        return [NameDigit()]

    def processors(self) -> Sequence[RandomBatchProcessor]:
        """Return the processor for random shifts of the training images, if enabled."""
        from aip_plugins.scenarios.tutorial.processors import RandomShift

        return [RandomShift(self.params.data.shift)] if self.params.data.shift else []

    def build(self, inputs: Any) -> Any:
        """Return the logits of the ten digits for images."""
        from aip_plugins.scenarios.tutorial.graphs import logits

        return {"digit": logits(inputs["image"], self.params.model.graph.params)}

    def losses(self) -> Any:
        """Return the cross-entropy loss."""
        import keras

        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self) -> Any:
        """Return the accuracy."""
        import keras

        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def evaluator(self) -> Evaluator:
        """Return a confusion evaluator."""
        from aip_plugins.scenarios.tutorial.evaluator import ConfusionEvaluator
        from aip_plugins.scenarios.tutorial.graphs import CLASSES

        return ConfusionEvaluator(CLASSES)

    def summaries(
        self,
        inputs: Mapping[str, Any],
        targets: Mapping[str, Any],
        outputs: Mapping[str, Any],
        meta: Sequence[Any] | None,
    ) -> list[Summary]:
        """Return misread digits, and the distributions of the logits and predictions."""
        from aip_plugins.scenarios.tutorial.summaries import digit_summaries

        del meta
        return digit_summaries(inputs["image"], targets["digit"], outputs["digit"])

    def _part(self, part: int) -> Any:
        from aip_plugins.scenarios.tutorial.datasets import load

        images, labels = load(self.params.data.dataset)[part]
        return {"image": images}, {"digit": labels}
