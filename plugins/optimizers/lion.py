"""Keras' Lion."""

from __future__ import annotations

from typing import Any

import keras
from aip_plugins.optimizers.decay import DecayByPath, decaying
from aip_plugins.optimizers.params import LionParams


@keras.saving.register_keras_serializable(package="aip")
class Lion(DecayByPath, keras.optimizers.Lion):
    """See `keras.optimizers.Lion`."""


def build_lion(params: LionParams, learning_rate: Any) -> Lion:
    """Return the optimizer."""
    return decaying(
        Lion,
        params,
        learning_rate=learning_rate,
        beta_1=params.beta_1,
        beta_2=params.beta_2,
    )  # type: ignore[no-any-return]
