"""Keras' SGD: gradient descent with optional momentum."""

from __future__ import annotations

from typing import Any

import keras
from aip_plugins.optimizers.decay import DecayByPath, decaying
from aip_plugins.optimizers.params import SGDParams


@keras.saving.register_keras_serializable(package="aip")
class SGD(DecayByPath, keras.optimizers.SGD):
    """See `keras.optimizers.SGD`."""


def build_sgd(params: SGDParams, learning_rate: Any) -> SGD:
    """Return the optimizer."""
    return decaying(
        SGD,
        params,
        learning_rate=learning_rate,
        momentum=params.momentum,
        nesterov=params.nesterov,
    )  # type: ignore[no-any-return]
