"""The network: convolutions, a bidirectional LSTM, and a class for each step along the line."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from aip_plugins.scenarios.text_line_recognition.lstm import Bidirectional
from aip_plugins.scenarios.text_line_recognition.params import TextLineModel
from keras import ops

CERTAIN = 1e4
"""Added to the blank's logit after the end of a line: no other class has a chance there."""


@keras.saving.register_keras_serializable(package="aip")
class LineMask(keras.layers.Layer):
    """A mask: 1 within a line and 0 in the padding after it.

    Args:
        stride: pixels of the line per step of the features.
    """

    def __init__(self, stride: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.stride = stride

    def call(self, features: Any, width: Any) -> Any:
        """Return float32 [batch, steps] for features of shape [batch, steps, ...] and widths in pixels, [batch, 1]."""
        steps = ops.arange(ops.shape(features)[1], dtype="int32")
        return ops.cast(steps[None, :] * self.stride < width, "float32")

    def compute_output_spec(self, features: Any, width: Any) -> Any:
        """Return the spec of one number per step."""
        del width
        return keras.KerasTensor((features.shape[0], features.shape[1]), "float32")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "stride": self.stride}


@keras.saving.register_keras_serializable(package="aip")
class PaddedWidth(keras.layers.Layer):
    """Pads images with paper, so that their width is a multiple of a number of pixels.

    A step of the features then belongs either to a line with its own padding, or only to the padding of the batch.

    Args:
        multiple: the number of pixels.
    """

    def __init__(self, multiple: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.multiple = multiple

    def call(self, image: Any) -> Any:
        """Return float32 [batch, padded width, height, 1] for images of shape [batch, width, height, 1]."""
        lacking = -tf.shape(image)[1] % self.multiple
        return tf.pad(image, [[0, 0], [0, lacking], [0, 0], [0, 0]])

    def compute_output_spec(self, image: Any) -> Any:
        """Return the spec of an image of any width."""
        return keras.KerasTensor((image.shape[0], None, *image.shape[2:]), image.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "multiple": self.multiple}


def logits(image: Any, width: Any, params: TextLineModel, classes: int) -> Any:
    """Return the logits of each step, [batch, steps, classes], where class 0 is the blank.

    Padding is reset to zero after each layer, so that the result for a line does not depend on the other lines of its
    batch. The steps after the end of a line are blank.

    Args:
        image: float32 [batch, width, height, 1].
        width: the width of each line without padding, int32 [batch, 1].
        params: the size of the network.
        classes: number of classes, including the blank.
    """
    x, stride = PaddedWidth(2 ** len(params.filters), name="padded")(image), 1
    for number, filters in enumerate(params.filters, start=1):
        x = keras.layers.Conv2D(filters, params.kernel_size, padding="same", name=f"conv_{number}")(x)
        stride *= 2
        # Activation and mask follow the pooling, which gives the same values with a quarter of the work.
        x = keras.layers.MaxPooling2D(2, padding="same", name=f"pool_{number}")(x)
        x = keras.layers.ReLU(name=f"relu_{number}")(x)
        x = _masked(x, LineMask(stride, name=f"pixels_{number}")(x, width))
    mask = LineMask(stride, name="steps")(x, width)
    x = keras.layers.Reshape((-1, x.shape[2] * x.shape[3]), name="columns")(x)
    lstm = keras.layers.LSTM(params.units, return_sequences=True, name="lstm")
    x = Bidirectional(lstm, name="line")(x, mask=ops.cast(mask, "bool"))
    if params.dropout:
        x = keras.layers.Dropout(params.dropout, name="dropout")(x)
    x = keras.layers.Dense(classes, name="characters", dtype="float32")(x)
    blank = ops.one_hot(0, classes, dtype="float32")
    return x * mask[:, :, None] + CERTAIN * (1 - mask)[:, :, None] * blank


def _masked(x: Any, mask: Any) -> Any:
    return x * ops.cast(mask, x.dtype)[:, :, None, None]
