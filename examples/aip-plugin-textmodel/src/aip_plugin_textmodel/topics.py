"""Fine-tuning: classify docstrings by topic."""

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
    """A few labelled texts."""

    per_topic: int = field(10, help="Labelled training docstrings per topic.", check=at_least(1))
    texts: tuple[str, ...] = field((), help="Texts to classify. Default: the held-out docstrings.")


@params
class TopicParams(TextParams):
    """Parameters of fine-tuning."""

    data: TopicData = group(TopicData, help="Texts.")


class DocstringTopics(Scenario):
    """Fine-tunes the packaged model to classify docstrings by topic from few examples."""

    params_class = TopicParams
    defaults: ClassVar[dict[str, Any]] = {
        "trainer.epochs": 20,
        "trainer.warmstart.model": str(PRETRAINED),
        # The topic layer is new.
        "trainer.warmstart.allow_partial": True,
        "train.batch_size": 16,
        "learning_rate.lr": 0.02,
    }
    monitor = ("max", "accuracy")

    def train_data(self) -> list[Sample]:
        """Return `per_topic` docstrings of each topic."""
        chosen = []
        for topic in range(len(TOPICS)):
            texts = [text for number, text in _labelled() if number == topic and not is_held_out(text)]
            texts.sort(key=number_of)
            chosen += [_sample(topic, text) for text in texts[: self.params.data.per_topic]]
        return chosen

    def val_data(self) -> list[Sample]:
        """Return all held-out docstrings with a topic."""
        return [_sample(topic, text) for topic, text in _labelled() if is_held_out(text)]

    def predict_data(self) -> list[Sample]:
        """Return the texts of `data.texts`, or the held-out docstrings."""
        texts = self.params.data.texts
        return [Sample(inputs=text, meta=text) for text in texts] if texts else self.val_data()

    def processors(self) -> list[Any]:
        """Encode words as numbers."""
        return [Encode(self.params.data.vocabulary)]

    def post_processors(self) -> list[PostProcessor]:
        """Replace the logits with the name of the topic."""
        return [NameTopic()]

    def build(self, inputs: Any) -> Any:
        """Return the logits of the topics."""
        from keras import layers

        text, _ = encode(inputs, self.params)
        return layers.Dense(len(TOPICS), name="topic")(text)

    def losses(self) -> Any:
        """Return the cross-entropy."""
        from keras.losses import SparseCategoricalCrossentropy

        return SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self) -> Any:
        """Return the accuracy."""
        from keras.metrics import SparseCategoricalAccuracy

        return [SparseCategoricalAccuracy(name="accuracy")]


class NameTopic(PostProcessor):
    """Converts logits to the name of a topic."""

    def process(self, outputs: Any, meta: Any) -> dict[str, Any]:
        """Return the name of the most likely topic."""
        del meta
        return {"topic": list(TOPICS)[int(outputs[""].argmax())]}


def _labelled() -> list[tuple[int, str]]:
    return [(topic, text) for module, text in docstrings() if (topic := topic_of(module)) is not None]


def _sample(topic: int, text: str) -> Sample:
    import numpy as np

    return Sample(inputs=text, targets=np.int32(topic), meta=text[:60])
