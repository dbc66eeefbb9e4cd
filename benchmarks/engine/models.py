"""The benchmark models in Keras: data, network, loss, batch size, learning rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np


@attrs.frozen(kw_only=True, eq=False)
class Task:
    """A training task.

    Attributes:
        batch_size: samples per batch.
        samples: samples per epoch; a multiple of the batch size.
        data: function from the number of samples to inputs, arrays by name, and targets.
        build: function from symbolic inputs by name to the output.
        loss: function from target and output to one value per sample, in Keras operations.
    """

    batch_size: int
    samples: int
    data: Callable[[int], tuple[dict[str, Any], Any]]
    build: Callable[[dict[str, Any]], Any]
    loss: Callable[[Any, Any], Any]


def cross_entropy(target: Any, output: Any) -> Any:
    """Return the cross-entropy of class indices and logits."""
    import keras

    return keras.ops.sparse_categorical_crossentropy(target, output, from_logits=True)


def ctc(target: Any, output: Any) -> Any:
    """Return the CTC loss of texts of 12 characters and logits of 32 steps."""
    from keras import ops

    batch = ops.shape(target)[0]
    lengths, steps = ops.full((batch,), 12, "int32"), ops.full((batch,), 32, "int32")
    return ops.ctc_loss(target, output, lengths, steps, mask_index=0)


def images(size: int, channels: int) -> Callable[[int], tuple[dict[str, Any], Any]]:
    """Return a function that makes noisy images of ten classes."""

    def make(samples: int) -> tuple[dict[str, Any], Any]:
        random = np.random.default_rng(0)
        labels = random.integers(0, 10, samples).astype(np.int32)
        means = random.random((10, size, size, channels), dtype=np.float32)
        return {
            "image": means[labels] + random.normal(0, 1, (samples, size, size, channels)).astype(np.float32)
        }, labels

    return make


def lines(samples: int) -> tuple[dict[str, Any], Any]:
    """Return features of 32 steps and texts of 12 characters."""
    random = np.random.default_rng(0)
    texts = random.integers(1, 40, (samples, 12)).astype(np.int32)
    return {"line": random.normal(size=(samples, 32, 48)).astype(np.float32)}, texts


def texts(samples: int) -> tuple[dict[str, Any], Any]:
    """Return texts of 64 words from a vocabulary of 2,000, in ten classes."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, samples).astype(np.int32)
    return {"words": (random.integers(0, 200, (samples, 64)) + 180 * labels[:, None]).astype(np.int32)}, labels


def mlp(inputs: dict[str, Any]) -> Any:
    """Build Dense 128, Dense 10."""
    from keras import layers

    return layers.Dense(10)(layers.Dense(128, activation="relu")(layers.Flatten()(inputs["image"])))


def cnn(inputs: dict[str, Any]) -> Any:
    """Build two convolutions with pooling, Dense 128, Dense 10."""
    from keras import layers

    x = inputs["image"]
    for filters in (32, 64):
        x = layers.MaxPooling2D(2)(layers.Conv2D(filters, 3, padding="same", activation="relu")(x))
    return layers.Dense(10)(layers.Dense(128, activation="relu")(layers.Flatten()(x)))


def resnet(inputs: dict[str, Any]) -> Any:
    """Build the stages of ResNet-18 with a quarter of its filters."""
    from keras import layers

    def conv(x: Any, filters: int, size: int = 3, strides: int = 1) -> Any:
        x = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    x = layers.ReLU()(conv(inputs["image"], 16, 3, 2))
    for stage, filters in enumerate((16, 32, 64, 128)):
        for block in range(2):
            strides = 2 if stage and not block else 1
            change = conv(layers.ReLU()(conv(x, filters, strides=strides)), filters)
            if strides > 1:
                x = conv(x, filters, 1, strides)
            x = layers.ReLU()(layers.Add()([x, change]))
    return layers.Dense(10)(layers.GlobalAveragePooling2D()(x))


def bilstm(inputs: dict[str, Any]) -> Any:
    """Build a bidirectional LSTM with 64 units and 40 classes per step."""
    from keras import layers

    return layers.Dense(40)(layers.Bidirectional(layers.LSTM(64, return_sequences=True))(inputs["line"]))


def transformer(inputs: dict[str, Any]) -> Any:
    """Build four blocks of attention and two dense layers, 64 wide, with 4 heads."""
    from keras import layers

    x = layers.Embedding(2000, 64)(inputs["words"])
    for _ in range(4):
        x = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(4, 16)(x, x)]))
        x = layers.LayerNormalization()(layers.Add()([x, layers.Dense(64)(layers.Dense(128, activation="relu")(x))]))
    return layers.Dense(10)(layers.GlobalAveragePooling1D()(x))


TASKS = {
    "MLP 28x28, batch 16": Task(batch_size=16, samples=19_200, data=images(28, 1), build=mlp, loss=cross_entropy),
    "MLP 28x28, batch 256": Task(batch_size=256, samples=38_400, data=images(28, 1), build=mlp, loss=cross_entropy),
    "CNN 28x28, batch 32": Task(batch_size=32, samples=3_200, data=images(28, 1), build=cnn, loss=cross_entropy),
    "ResNet 64x64, batch 32": Task(batch_size=32, samples=640, data=images(64, 3), build=resnet, loss=cross_entropy),
    "BiLSTM+CTC, batch 16": Task(batch_size=16, samples=800, data=lines, build=bilstm, loss=ctc),
    "Transformer, batch 32": Task(batch_size=32, samples=1_280, data=texts, build=transformer, loss=cross_entropy),
}
"""Tasks by name."""
