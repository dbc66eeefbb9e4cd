"""Pre-training: predict masked words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

from aip_plugin_textmodel.docstrings import docstrings, is_held_out
from aip_plugin_textmodel.params import TextParams, encode
from aip_plugin_textmodel.vocabulary import HIDDEN, NOTHING, Encode
from aipcore.scenario import Mode, RandomProcessor, Sample, Scenario

SHARE = 0.3
"""Fraction of the words that are masked."""


class DocstringWords(Scenario):
    """Predicts masked words of docstrings."""

    params_class = TextParams
    defaults: ClassVar[dict[str, Any]] = {"trainer.epochs": 40, "train.batch_size": 32, "learning_rate.lr": 0.005}

    def train_data(self) -> list[Sample]:
        """Return all docstrings that are not held out."""
        return [Sample(inputs=text) for _, text in docstrings() if not is_held_out(text)]

    def val_data(self) -> list[Sample]:
        """Return the held-out docstrings."""
        return [Sample(inputs=text) for _, text in docstrings() if is_held_out(text)]

    def processors(self) -> list[Any]:
        """Encode words as numbers and mask some of them."""
        return [Encode(self.params.data.vocabulary), Hide()]

    def build(self, inputs: Any) -> Any:
        """Return the logits of all words for a text, [batch, words], computed with the word vectors (tied weights)."""
        text, words = encode(inputs, self.params)
        return words(text, reverse=True)

    def loss_values(
        self, inputs: Mapping[str, Any], targets: Mapping[str, Any], outputs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the mean cross-entropy of the masked words of a text, in nats."""
        from keras import ops

        del inputs
        hidden = ops.cast(targets[""] != NOTHING, "float32")
        chances = ops.take_along_axis(ops.log_softmax(outputs[""]), targets[""], axis=1)
        return {"guess": -ops.sum(chances * hidden, axis=1) / ops.maximum(ops.sum(hidden, axis=1), 1)}


class Hide(RandomProcessor):
    """Masks some of the words, different ones in each epoch. The target is the original word, and 0 elsewhere."""

    modes: ClassVar[set[Mode]] = {Mode.TRAINING, Mode.EVALUATION}

    def process(self, sample: Sample, rng: Any) -> Sample:
        """Mask words."""
        import numpy as np

        words = sample.inputs
        hidden = (words > HIDDEN) & (rng.random(words.shape) < SHARE)
        return attrs.evolve(
            sample,
            inputs=np.where(hidden, HIDDEN, words).astype(np.int32),
            targets=np.where(hidden, words, NOTHING).astype(np.int32),
        )
