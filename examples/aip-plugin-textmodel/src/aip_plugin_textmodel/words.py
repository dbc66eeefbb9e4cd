"""Pre-training: guess the words that are left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

from aip_plugin_textmodel.docstrings import docstrings, is_held_out
from aip_plugin_textmodel.params import TextParams, encode
from aip_plugin_textmodel.vocabulary import HIDDEN, NOTHING, Encode
from aipcore.scenario import Mode, RandomProcessor, Sample, Scenario

SHARE = 0.3
"""Of the words, how many are hidden."""


class DocstringWords(Scenario):
    """Learns to guess words that are left out of docstrings."""

    params_class = TextParams
    defaults: ClassVar[dict[str, Any]] = {"trainer.epochs": 40, "train.batch_size": 32, "learning_rate.lr": 0.005}

    def train_data(self) -> list[Sample]:
        """All docstrings that are not held out."""
        return [Sample(inputs=text) for _, text in docstrings() if not is_held_out(text)]

    def val_data(self) -> list[Sample]:
        """The others."""
        return [Sample(inputs=text) for _, text in docstrings() if is_held_out(text)]

    def processors(self) -> list[Any]:
        """Numbers, of which some are hidden."""
        return [Encode(self.params.data.vocabulary), Hide()]

    def build(self, inputs: Any) -> Any:
        """Logits of all words for a text, [batch, words]; the vector of a word is also the weights of its logit."""
        text, words = encode(inputs, self.params)
        return words(text, reverse=True)

    def loss_values(
        self, inputs: Mapping[str, Any], targets: Mapping[str, Any], outputs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The mean cross-entropy of the words of a text that are hidden, in nats."""
        from keras import ops

        del inputs
        hidden = ops.cast(targets[""] != NOTHING, "float32")
        chances = ops.take_along_axis(ops.log_softmax(outputs[""]), targets[""], axis=1)
        return {"guess": -ops.sum(chances * hidden, axis=1) / ops.maximum(ops.sum(hidden, axis=1), 1)}


class Hide(RandomProcessor):
    """Hides some of the words, others in each epoch; the target is what they were, and 0 elsewhere."""

    modes: ClassVar[set[Mode]] = {Mode.TRAINING, Mode.EVALUATION}

    def process(self, sample: Sample, rng: Any) -> Sample:
        """Hides words."""
        import numpy as np

        words = sample.inputs
        hidden = (words > HIDDEN) & (rng.random(words.shape) < SHARE)
        return attrs.evolve(
            sample,
            inputs=np.where(hidden, HIDDEN, words).astype(np.int32),
            targets=np.where(hidden, words, NOTHING).astype(np.int32),
        )
