"""The networks of the tutorial: images of shape [batch, height, width] to logits of shape [batch, 10]."""

from __future__ import annotations

from typing import Any

import keras
from aip_plugins.scenarios.tutorial.params import CNN, MLP, GraphParams

CLASSES = 10


def logits(images: Any, params: GraphParams) -> Any:
    """Return the logits of the network described by `params`."""
    match params:
        case MLP():
            hidden = _mlp(images, params)
        case CNN():
            hidden = _cnn(images, params)
        case _:
            raise TypeError(f"{type(params).__name__} is not a graph of the tutorial.")
    if params.dropout:
        hidden = keras.layers.Dropout(params.dropout)(hidden)
    return keras.layers.Dense(CLASSES, name="logits")(hidden)


def _mlp(images: Any, params: MLP) -> Any:
    x = keras.layers.Flatten(name="pixels")(images)
    for number, units in enumerate(params.units, start=1):
        x = keras.layers.Dense(units, activation="relu", name=f"hidden_{number}")(x)
    return x


def _cnn(images: Any, params: CNN) -> Any:
    x = keras.layers.Reshape((*images.shape[1:], 1), name="channel")(images)
    for number, filters in enumerate(params.filters, start=1):
        x = keras.layers.Conv2D(filters, params.kernel_size, padding="same", activation="relu", name=f"conv_{number}")(
            x
        )
        if min(x.shape[1:3]) >= 2:
            x = keras.layers.MaxPooling2D(2, name=f"pool_{number}")(x)
    x = keras.layers.Flatten(name="features")(x)
    return keras.layers.Dense(params.units, activation="relu", name="hidden")(x)
