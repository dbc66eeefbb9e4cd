"""The Keras layers of a network. The outputs for a line do not depend on the padding of its batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import keras
from aip_plugins.scenarios.text_line_recognition.lstm import Bidirectional
from aip_plugins.scenarios.text_line_recognition.network import CERTAIN, LineMask, PaddedWidth
from keras import ops

from aip_plugin_ocr.network.layers import LSTM, BatchNorm, Conv, Dense, Dropout, Pool, Recurrent, stride_of
from aipcore.params import Choice

NOT_NEGATIVE = ("relu", "sigmoid")
"""Activation functions without values below the zeros of the padding."""

INCREASING = ("relu", "leaky_relu", "elu", "tanh", "sigmoid", "linear")
"""Activation functions that can follow a pooling instead of preceding it."""


def logits(image: Any, width: Any, layers: Sequence[Choice[Any]], classes: int) -> Any:
    """Return the logits of each step, [batch, steps, classes], where class 0 is the blank.

    Padding is reset to zero after each layer. The steps after the end of a line are blank.

    Args:
        image: float32 [batch, width, height, 1].
        width: the width of each line without padding, int32 [batch, 1].
        layers: the layers, as checked by `check_layers`.
        classes: number of classes, including the blank.
    """
    network = _Network(PaddedWidth(stride_of(layers), name="padded")(image), width)
    counts: Counter[str] = Counter()
    for layer, following in zip_longest(layers, layers[1:]):
        counts[layer.name] += 1
        network.add(layer.params, f"{layer.name.lower()}_{counts[layer.name]}", following and following.params)
    network.make_sequence()
    mask = ops.cast(network.mask(), "float32")[:, :, None]
    blank = ops.one_hot(0, classes, dtype="float32")
    x = keras.layers.Dense(classes, name="characters", dtype="float32")(network.x)
    return x * mask + CERTAIN * (1 - mask) * blank


class _Network:
    """The layers so far.

    Attributes:
        x: the features, [batch, width, height, channels], or [batch, steps, channels] of a sequence. Padding is zero.
    """

    def __init__(self, image: Any, width: Any) -> None:
        self.x = image
        self._width = width
        self._stride = 1
        self._masks: dict[int, Any] = {}
        self._not_negative = False
        self._activation = ""  # Of a convolution, to be applied after the pooling that follows it.

    def mask(self) -> Any:
        """Return a mask of the lines without their padding, bool [batch, steps]."""
        if self._stride not in self._masks:
            mask = LineMask(self._stride, name=f"lines_{self._stride}")(self.x, self._width)
            self._masks[self._stride] = ops.cast(mask, "bool")
        return self._masks[self._stride]

    def make_sequence(self) -> None:
        """Join height and channels."""
        if len(self.x.shape) == 4:
            self.x = keras.layers.Reshape((-1, self.x.shape[2] * self.x.shape[3]), name="columns")(self.x)

    def add(self, layer: Any, name: str, following: Any) -> None:
        """Add a layer, given the parameters of the next one."""
        match layer:
            case Conv():
                self._convolve(layer, name)
                if _is_exchangeable(layer, following):
                    # The same values with less work. Windows at the end of a line contain what the convolution gives
                    # for the first pixels of its padding.
                    self._activation = layer.activation
                    return
                self.x = keras.layers.Activation(layer.activation, name=f"{name}_{layer.activation}")(self.x)
                self._not_negative = layer.activation in NOT_NEGATIVE
            case Pool():
                self._pool(layer, name)
            case Recurrent():
                self.make_sequence()
                self.x = _recurrent(layer, name)(self.x, mask=self.mask())
            case Dense():
                self.make_sequence()
                self.x = keras.layers.Dense(layer.units, layer.activation, name=name)(self.x)
            case BatchNorm():
                mask = self.mask() if len(self.x.shape) == 3 else self.mask()[:, :, None]
                self.x = keras.layers.BatchNormalization(momentum=layer.momentum, name=name)(self.x, mask=mask)
                self._not_negative = False
            case Dropout():
                # Zeros stay zeros.
                self.x = keras.layers.Dropout(layer.rate, name=name)(self.x)
                return
        self.x = self.x * ops.cast(self._mask_of_features(), self.x.dtype)

    def _convolve(self, layer: Conv, name: str) -> None:
        self.x = keras.layers.Conv2D(layer.filters, layer.kernel_size, layer.strides, padding="same", name=name)(self.x)
        self._stride *= layer.strides[0]

    def _pool(self, layer: Pool, name: str) -> None:
        if not self._activation and not self._not_negative:
            lowest = -65504.0 if self.x.dtype == "float16" else -3e38
            self.x = ops.where(self._mask_of_features(), self.x, lowest)
        self.x = keras.layers.MaxPooling2D(layer.size, layer.steps, padding="same", name=name)(self.x)
        self._stride *= layer.steps[0]
        if self._activation:
            self.x = keras.layers.Activation(self._activation, name=f"{name}_{self._activation}")(self.x)
            self._not_negative, self._activation = self._activation in NOT_NEGATIVE, ""

    def _mask_of_features(self) -> Any:
        return self.mask()[:, :, None] if len(self.x.shape) == 3 else self.mask()[:, :, None, None]


def _is_exchangeable(layer: Conv, following: Any) -> bool:
    """Return True if a layer is a pooling of disjoint windows, which can precede the activation function."""
    disjoint = isinstance(following, Pool) and following.size[0] <= following.steps[0]
    return disjoint and layer.activation in INCREASING


def _recurrent(layer: Recurrent, name: str) -> Any:
    kind = keras.layers.LSTM if isinstance(layer, LSTM) else keras.layers.GRU
    if not layer.bidirectional:
        return kind(layer.units, return_sequences=True, name=name)
    # Without a name, the paths of the weights would depend on the layers that the process made before.
    inner = kind(layer.units, return_sequences=True, name=kind.__name__.lower())
    return (Bidirectional if kind is keras.layers.LSTM else keras.layers.Bidirectional)(inner, name=name)
