"""Fine-tuning: what is a docstring about?"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from aip_plugin_textmodel.docstrings import TOPICS, docstrings, is_held_out, number_of, topic_of
from aip_plugin_textmodel.params import TextData, TextParams, encode
from aip_plugin_textmodel.vocabulary import Encode
from aipcore.params import at_least, field, group, params
from aipcore.scenario import PostProcessor, Sample, Scenario

PRETRAINED = Path(__file__).with_name("pretrained.keras")


@params
class TopicData(TextData):
    """Few labelled texts."""

    per_topic: int = field(10, help="Labelled docstrings of each topic to learn from.", check=at_least(1))
    texts: tuple[str, ...] = field((), help="Texts to name the topic of, if others than the held-out docstrings.")


@params
class TopicParams(TextParams):
    """Parameters of fine-tuning."""

    data: TopicData = group(TopicData, help="Texts.")


class DocstringTopics(Scenario):
    """Learns what a docstring is about from few examples, beginning with the packaged model."""

    params_class = TopicParams
    defaults: ClassVar[dict[str, Any]] = {
        "trainer.epochs": 20,
        "trainer.warmstart.model": str(PRETRAINED),
        # The layer that names topics is new.
        "trainer.warmstart.allow_partial": True,
        "train.batch_size": 16,
        "learning_rate.lr": 0.02,
    }
    monitor = ("max", "accuracy")

    def train_data(self) -> list[Sample]:
        """`per_topic` docstrings of each topic."""
        chosen = []
        for topic in range(len(TOPICS)):
            texts = [text for number, text in _labelled() if number == topic and not is_held_out(text)]
            texts.sort(key=number_of)
            chosen += [_sample(topic, text) for text in texts[: self.params.data.per_topic]]
        return chosen

    def val_data(self) -> list[Sample]:
        """All that are held out."""
        return [_sample(topic, text) for topic, text in _labelled() if is_held_out(text)]

    def predict_data(self) -> list[Sample]:
        """The texts of `data.texts`, or those that are held out."""
        texts = self.params.data.texts
        return [Sample(inputs=text, meta=text) for text in texts] if texts else self.val_data()

    def processors(self) -> list[Any]:
        """Words as numbers."""
        return [Encode(self.params.data.vocabulary)]

    def post_processors(self) -> list[PostProcessor]:
        """Name the topic."""
        return [NameTopic()]

    def build(self, inputs: Any) -> Any:
        """Logits of the topics."""
        from keras import layers

        text, _ = encode(inputs, self.params)
        return layers.Dense(len(TOPICS), name="topic")(text)

    def losses(self) -> Any:
        """Cross-entropy."""
        from keras.losses import SparseCategoricalCrossentropy

        return SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self) -> Any:
        """Accuracy."""
        from keras.metrics import SparseCategoricalAccuracy

        return [SparseCategoricalAccuracy(name="accuracy")]


class NameTopic(PostProcessor):
    """Logits to a name."""

    def process(self, outputs: Any, meta: Any) -> dict[str, Any]:
        """Names the topic."""
        del meta
        return {"topic": list(TOPICS)[int(outputs[""].argmax())]}


def _labelled() -> list[tuple[int, str]]:
    return [(topic, text) for module, text in docstrings() if (topic := topic_of(module)) is not None]


def _sample(topic: int, text: str) -> Sample:
    import numpy as np

    return Sample(inputs=text, targets=np.int32(topic), meta=text[:60])
