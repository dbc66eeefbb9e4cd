"""Parameters of text classification."""

from __future__ import annotations

from typing import Any, ClassVar

from aip_plugins.scenarios.pretrained.params import KerasHub

from aipcore.params import Choice, at_least, component, field, fraction, group, params
from aipcore.scenario import ListFileData, ListFileParams, ModelParams


@params
class TextData(ListFileData):
    """Texts and their classes."""

    text: str = field("text", help="Column of the texts in a table.")
    label: str = field("label", help="Column of the classes in a table.")
    classes: tuple[str, ...] = field(
        (), help="Class names, in the order of the outputs. By default, the classes of the training texts."
    )


@params
class Embedding:
    """The average of word embeddings (Joulin et al., "Bag of Tricks for Efficient Text Classification", 2016)."""

    vocabulary: int = field(10_000, help="Most words of the vocabulary, by their frequency.", check=at_least(3))
    ngrams: int = field(2, help="Most words of a phrase in the vocabulary.", check=at_least(1))
    length: int = field(200, help="Words and phrases of a text. The rest is cut off.", check=at_least(1))
    units: int = field(32, help="Size of an embedding.", check=at_least(1))
    dropout: float = field(0.2, help="Dropout rate of the average. 0 disables it.", check=fraction())


@params
class TextKerasHub(KerasHub):
    """A preset of KerasHub with its tokenizer and a new output layer."""

    packages: ClassVar[tuple[str, ...]] = ("keras_hub", "tensorflow_text")

    length: int = field(128, help="Tokens of a text. The rest is cut off.", check=at_least(2))


@params
class TextModel(ModelParams):
    """The network."""

    graph: Choice[Any] = component(
        {"Embedding": Embedding, "KerasHub": TextKerasHub}, default="Embedding", help="Architecture of the network."
    )


@params
class TextParams(ListFileParams):
    """Parameters of text classification."""

    data: TextData = group(TextData, help="Texts and their classes.")
    model: TextModel = group(TextModel, help="The network.")
