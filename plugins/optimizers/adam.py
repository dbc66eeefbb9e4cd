"""Keras' Adam, AdamW, Adamax and Nadam."""

from __future__ import annotations

from typing import Any

import keras
from aip_plugins.optimizers.decay import DecayByPath, decaying, moments
from aip_plugins.optimizers.params import AdamaxParams, AdamParams, AdamWParams, NadamParams


@keras.saving.register_keras_serializable(package="aip")
class Adam(DecayByPath, keras.optimizers.Adam):
    """See `keras.optimizers.Adam`."""


@keras.saving.register_keras_serializable(package="aip")
class AdamW(DecayByPath, keras.optimizers.AdamW):
    """See `keras.optimizers.AdamW`."""


@keras.saving.register_keras_serializable(package="aip")
class Adamax(DecayByPath, keras.optimizers.Adamax):
    """See `keras.optimizers.Adamax`."""


@keras.saving.register_keras_serializable(package="aip")
class Nadam(DecayByPath, keras.optimizers.Nadam):
    """See `keras.optimizers.Nadam`."""


def build_adam(params: AdamParams, learning_rate: Any) -> Adam:
    """Return the optimizer."""
    return decaying(
        Adam,
        params,
        learning_rate=learning_rate,
        **moments(params),
        amsgrad=params.amsgrad,
    )  # type: ignore[no-any-return]


def build_adamw(params: AdamWParams, learning_rate: Any) -> AdamW:
    """Return the optimizer."""
    return decaying(
        AdamW,
        params,
        learning_rate=learning_rate,
        **moments(params),
        amsgrad=params.amsgrad,
    )  # type: ignore[no-any-return]


def build_adamax(params: AdamaxParams, learning_rate: Any) -> Adamax:
    """Return the optimizer."""
    return decaying(
        Adamax,
        params,
        learning_rate=learning_rate,
        **moments(params),
    )  # type: ignore[no-any-return]


def build_nadam(params: NadamParams, learning_rate: Any) -> Nadam:
    """Return the optimizer."""
    return decaying(
        Nadam,
        params,
        learning_rate=learning_rate,
        **moments(params),
    )  # type: ignore[no-any-return]
