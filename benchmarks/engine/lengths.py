"""Texts of varying length, in batches of similar length."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import numpy as np

from engine.models import Task, cross_entropy

WORDS, CLASSES, UNITS, WINDOW = 2000, 4, 32, 16


def texts(count: int) -> list[tuple[Any, Any]]:
    """Return texts of 8 to 160 words, each with its class, which is that of most of its words."""
    generator = np.random.default_rng(0)
    lengths = np.clip(generator.lognormal(3.7, 0.6, count), 8, 160).astype(int)
    labels = generator.integers(0, CLASSES, count)
    made = []
    for length, label in zip(lengths, labels, strict=True):
        words = generator.integers(1, WORDS // CLASSES, length) * CLASSES + generator.integers(0, CLASSES, length)
        words[: length // 3] += label - words[: length // 3] % CLASSES
        made.append((np.minimum(words, WORDS - 1).astype(np.int32), np.int32(label)))
    return made


def batches(count: int, size: int) -> list[tuple[Any, Any]]:
    """Return the texts in batches, sorted by length within `WINDOW` batches and padded to the longest of a batch."""
    data, made = texts(count), []
    for first in range(0, count, size * WINDOW):
        window = sorted(data[first : first + size * WINDOW], key=lambda sample: len(sample[0]))
        for start in range(0, len(window), size):
            words, labels = zip(*window[start : start + size], strict=True)
            padded = np.zeros((len(words), max(map(len, words))), np.int32)
            for row, text in zip(padded, words, strict=True):
                row[: len(text)] = text
            made.append((padded, np.array(labels)))
    return [made[place] for place in np.random.default_rng(1).permutation(len(made))]


def network(inputs: Any, units: int) -> Any:
    """Build Embedding, BiLSTM, Dense."""
    import keras

    embedded = keras.layers.Embedding(WORDS, units, mask_zero=True)(inputs)
    return keras.layers.Dense(CLASSES)(keras.layers.Bidirectional(keras.layers.LSTM(units))(embedded))


@attrs.frozen(kw_only=True, eq=False)
class Lengths(Task):
    """The texts, which aip reads one by one, and the peers as batches."""

    batch_size: int = 32
    samples: int = 2_048
    data: Any = None
    build: Any = attrs.field(default=lambda inputs: network(inputs["words"], UNITS))
    loss: Any = attrs.field(default=cross_entropy)
    torch: str = "lengths"

    def symbolic(self) -> dict[str, Any]:
        """Return texts of any length."""
        import keras

        return {"words": keras.Input((None,), dtype="int32", name="words")}

    def scenario(self) -> tuple[Any, dict[str, Any]]:
        """Return the scenario of `variable_length.py`."""
        from variable_length import Texts

        return Texts, {
            "train.bucket_window": WINDOW, "train.shuffle": True, "model.units": UNITS, "model.texts": self.samples,
        }  # fmt: skip

    def fit_arguments(self) -> dict[str, Any]:
        """Return a dataset of the batches, whose number `Model.fit` needs for the right number of updates."""
        import tensorflow as tf

        made = [({"words": words}, labels) for words, labels in batches(self.samples, self.batch_size)]
        spec = ({"words": tf.TensorSpec((None, None), tf.int32)}, tf.TensorSpec((None,), tf.int32))
        dataset = tf.data.Dataset.from_generator(lambda: made, output_signature=spec)
        return {"x": dataset.apply(tf.data.experimental.assert_cardinality(len(made))).prefetch(tf.data.AUTOTUNE)}

    def torch_batches(self, device: str) -> Iterable[Any]:
        """Return the batches as tensors."""
        import torch

        made = batches(self.samples, self.batch_size)
        tensors = [tuple(torch.from_numpy(array).to(device) for array in batch) for batch in made]
        return torch.utils.data.DataLoader(tensors, batch_size=None, shuffle=True)
