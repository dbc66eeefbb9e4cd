"""The Keras layers of a network. The outputs for a line do not depend on the padding of its batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras
from aip_plugins.scenarios.text_line_recognition.network import CERTAIN, LineMask
from keras import ops

from aip_plugin_ocr.network.layers import LSTM, BatchNorm, Conv, Dense, Dropout, Pool, Recurrent
from aipcore.params import Choice

NOT_NEGATIVE = ("relu", "sigmoid")
"""Activation functions without values below the zeros of the padding."""


def logits(image: Any, width: Any, layers: Sequence[Choice[Any]], classes: int) -> Any:
    """Return the logits of each step, [batch, steps, classes], where class 0 is the blank.

    Padding is reset to zero after each layer. The steps after the end of a line are blank.

    Args:
        image: float32 [batch, width, height, 1].
        width: the width of each line without padding, int32 [batch, 1].
        layers: the layers, as checked by `check_layers`.
        classes: number of classes, including the blank.
    """
    network = _Network(image, width)
    counts: Counter[str] = Counter()
    for layer in layers:
        counts[layer.name] += 1
        network.add(layer.params, f"{layer.name.lower()}_{counts[layer.name]}")
    network.make_sequence()
    mask = ops.cast(network.mask, "float32")[:, :, None]
    blank = ops.one_hot(0, classes, dtype="float32")
    x = keras.layers.Dense(classes, name="characters", dtype="float32")(network.x)
    return x * mask + CERTAIN * (1 - mask) * blank


class _Network:
    """The layers so far.

    Attributes:
        x: the features, [batch, width, height, channels], or [batch, steps, channels] of a sequence. Padding is zero.
        mask: 1 within a line and 0 in the padding, float32 [batch, steps].
    """

    def __init__(self, image: Any, width: Any) -> None:
        self.x = image
        self.mask = LineMask(1, name="pixels")(image, width)
        self._width = width
        self._stride = 1
        self._not_negative = False

    def add(self, layer: Any, name: str) -> None:
        """Add a layer. Its output has the padding of its input or a padding of zeros."""
        not_negative = getattr(layer, "activation", "") in NOT_NEGATIVE
        match layer:
            case Conv():
                self._convolve(layer, name)
            case Pool():
                self._pool(layer, name)
                not_negative = self._not_negative
            case Recurrent():
                self.make_sequence()
                self.x = _recurrent(layer, name)(self.x, mask=ops.cast(self.mask, "bool"))
            case Dense():
                self.make_sequence()
                self.x = keras.layers.Dense(layer.units, layer.activation, name=name)(self.x)
            case BatchNorm():
                mask = ops.cast(self.mask, "bool")
                mask = mask if len(self.x.shape) == 3 else mask[:, :, None]
                self.x = keras.layers.BatchNormalization(momentum=layer.momentum, name=name)(self.x, mask=mask)
            case Dropout():
                # Zeros stay zeros.
                self.x = keras.layers.Dropout(layer.rate, name=name)(self.x)
                return
        self._not_negative = not_negative
        self.x = self.x * self._mask_of_features()

    def make_sequence(self) -> None:
        """Join height and channels."""
        if len(self.x.shape) == 4:
            self.x = keras.layers.Reshape((-1, self.x.shape[2] * self.x.shape[3]), name="columns")(self.x)

    def _convolve(self, layer: Conv, name: str) -> None:
        same = _begins_alike(layer.kernel_size[0], layer.strides[0])
        if not same:
            padding = _padding(self.x.shape[2], layer.kernel_size, layer.strides)
            self.x = keras.layers.ZeroPadding2D(padding, name=f"{name}_padding")(self.x)
        self.x = keras.layers.Conv2D(
            layer.filters,
            layer.kernel_size,
            layer.strides,
            padding="same" if same else "valid",
            activation=layer.activation,
            name=name,
        )(self.x)
        self._divide_width(layer.strides[0], name)

    def _pool(self, layer: Pool, name: str) -> None:
        same = _begins_alike(layer.size[0], layer.steps[0])
        lowest = -65504.0 if self.x.dtype == "float16" else -3e38
        if not self._not_negative or not same:
            self.x = ops.where(ops.cast(self._mask_of_features(), "bool"), self.x, lowest)
        if not same:
            padding = ((0, 0), *_padding(self.x.shape[2], layer.size, layer.steps), (0, 0))
            self.x = ops.pad(self.x, padding, constant_values=lowest)
        self.x = keras.layers.MaxPooling2D(layer.size, layer.steps, "same" if same else "valid", name=name)(self.x)
        self._divide_width(layer.steps[0], name)

    def _divide_width(self, stride: int, name: str) -> None:
        if stride > 1:
            self._stride *= stride
            self.mask = LineMask(self._stride, name=f"{name}_steps")(self.x, self._width)

    def _mask_of_features(self) -> Any:
        mask = ops.cast(self.mask, self.x.dtype)
        return mask[:, :, None] if len(self.x.shape) == 3 else mask[:, :, None, None]


def _recurrent(layer: Recurrent, name: str) -> Any:
    kind = keras.layers.LSTM if isinstance(layer, LSTM) else keras.layers.GRU
    if layer.bidirectional:
        return keras.layers.Bidirectional(kind(layer.units, return_sequences=True), name=name)
    return kind(layer.units, return_sequences=True, name=name)


def _begins_alike(window: int, stride: int) -> bool:
    """Return True if the first window of "same" padding begins at the same pixel for images of all widths."""
    return len({max(window - rest, 0) // 2 for rest in range(1, stride + 1)}) == 1


def _padding(height: int, window: tuple[int, int], strides: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the padding of both axes that gives as many windows as "same" padding.

    Along the width, it is the same for all widths. Along the height, it is "same" padding.
    """
    before = (window[0] - 1) // 2
    more = max((-(-height // strides[1]) - 1) * strides[1] + window[1] - height, 0)
    return (before, window[0] - 1 - before), (more // 2, more - more // 2)
