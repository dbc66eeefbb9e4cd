"""Keras' Muon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from aip_plugins.optimizers.decay import DecayByPath, decaying, matching_any
from aip_plugins.optimizers.params import MuonParams


@keras.saving.register_keras_serializable(package="aip")
class Muon(DecayByPath, keras.optimizers.Muon):
    """See `keras.optimizers.Muon`."""

    def build(self, variables: Sequence[Any]) -> None:
        """Create the optimizer's variables.

        Raises:
            ParamsError: a pattern matches no variable.
        """
        matching_any(self.exclude_layers, variables, "--optimizer.adam_layers")
        super().build(variables)


def build_muon(params: MuonParams, learning_rate: Any) -> Muon:
    """Return the optimizer."""
    return decaying(
        Muon,
        params,
        learning_rate=learning_rate,
        adam_weight_decay=params.weight_decay or None,
        exclude_layers=list(params.adam_layers),
        momentum=params.momentum,
        nesterov=params.nesterov,
        ns_steps=params.ns_steps,
        rms_rate=params.rms_rate,
        adam_lr_ratio=params.adam_lr_ratio,
        adam_beta_1=params.adam_beta_1,
        adam_beta_2=params.adam_beta_2,
        epsilon=params.epsilon,
    )  # type: ignore[no-any-return]
