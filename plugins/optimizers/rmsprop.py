"""Keras' RMSprop."""

from __future__ import annotations

from typing import Any

import keras
from aip_plugins.optimizers.decay import DecayByPath, decaying
from aip_plugins.optimizers.params import RMSpropParams


@keras.saving.register_keras_serializable(package="aip")
class RMSprop(DecayByPath, keras.optimizers.RMSprop):
    """See `keras.optimizers.RMSprop`."""


def build_rmsprop(params: RMSpropParams, learning_rate: Any) -> RMSprop:
    """Return the optimizer."""
    return decaying(
        RMSprop,
        params,
        learning_rate=learning_rate,
        rho=params.rho,
        momentum=params.momentum,
        epsilon=params.epsilon,
        centered=params.centered,
    )  # type: ignore[no-any-return]
