"""The networks: images, float32 [batch, height, width, channels], to logits, float32 [batch, classes]."""

from __future__ import annotations

from typing import Any

import keras
from aip_plugins.scenarios.image_classification.params import CNN, ResNet
from aip_plugins.scenarios.pretrained.networks import application_logits, image_preset_logits
from aip_plugins.scenarios.pretrained.params import Application, KerasHub


def logits(images: Any, params: Any, classes: int) -> Any:
    """Return the logits of the network described by `params`."""
    match params:
        case CNN():
            features = _cnn(images, params)
        case ResNet():
            features = _resnet(images, params)
        case Application():
            return application_logits(images, params, classes)
        case KerasHub():
            return image_preset_logits(images, params, classes)
        case _:
            raise TypeError(f"{type(params).__name__} is not a graph of image classification.")
    features = keras.layers.GlobalAveragePooling2D(name="average")(features)
    if params.dropout:
        features = keras.layers.Dropout(params.dropout, name="dropout")(features)
    return keras.layers.Dense(classes, name="classes", dtype="float32")(features)


def _cnn(x: Any, params: CNN) -> Any:
    for number, filters in enumerate(params.filters, start=1):
        x = _convolution(x, filters, params.kernel_size, name=f"conv_{number}")
        x = keras.layers.Activation("relu", name=f"relu_{number}")(x)
        if number < len(params.filters) and min(x.shape[1:3]) >= 2:
            x = keras.layers.MaxPooling2D(2, name=f"pool_{number}")(x)
    return x


def _resnet(x: Any, params: ResNet) -> Any:
    x = keras.layers.Activation("relu", name="stem_relu")(_convolution(x, params.filters[0], 3, name="stem"))
    for stage, filters in enumerate(params.filters, start=1):
        for block in range(1, params.blocks + 1):
            halves = stage > 1 and block == 1
            x = _residual(x, filters, strides=2 if halves else 1, name=f"stage_{stage}_block_{block}")
    return x


def _residual(x: Any, filters: int, *, strides: int, name: str) -> Any:
    change = _convolution(x, filters, 3, strides=strides, name=f"{name}_a")
    change = keras.layers.Activation("relu", name=f"{name}_relu")(change)
    change = _convolution(change, filters, 3, name=f"{name}_b")
    if strides > 1 or x.shape[-1] != filters:
        x = _convolution(x, filters, 1, strides=strides, name=f"{name}_shortcut")
    return keras.layers.Activation("relu", name=f"{name}_out")(keras.layers.Add(name=f"{name}_sum")([x, change]))


def _convolution(x: Any, filters: int, kernel_size: int, *, strides: int = 1, name: str) -> Any:
    # The following normalization has its own bias.
    x = keras.layers.Conv2D(filters, kernel_size, strides=strides, padding="same", use_bias=False, name=name)(x)
    return keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
