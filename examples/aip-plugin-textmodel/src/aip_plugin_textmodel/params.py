"""Parameters of both scenarios, and the text encoder that is pre-trained and fine-tuned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aip_plugin_textmodel.vocabulary import HIDDEN, PACKAGED, read_vocabulary
from aipcore.params import at_least, field, group, params
from aipcore.scenario import DataParams, ModelParams, ScenarioParams


@params
class TextData(DataParams):
    """The vocabulary."""

    vocabulary: Path = field(PACKAGED, help="Vocabulary file, one word per line.", resource=True)


@params
class Encoder(ModelParams):
    """The mean of all word vectors, followed by a layer."""

    size: int = field(32, help="Size of word and text vectors.", check=at_least(1))


@params
class TextParams(ScenarioParams):
    """Parameters of both scenarios."""

    data: TextData = group(TextData, help="Texts.")
    model: Encoder = group(Encoder, help="The encoder.")


def encode(numbers: Any, params: TextParams) -> tuple[Any, Any]:
    """Encode word numbers, int32 [batch, words], as text vectors, [batch, size]. Also return the layer `words`."""
    from keras import layers, ops

    size = params.model.size
    words = layers.ReversibleEmbedding(len(read_vocabulary(params.data.vocabulary)) + 2, size, name="words")
    known = ops.cast(numbers > HIDDEN, "float32")[:, :, None]
    mean = ops.sum(words(numbers) * known, axis=1) / ops.maximum(ops.sum(known, axis=1), 1)
    return mean + layers.Dense(size, activation="tanh", name="text")(mean), words
