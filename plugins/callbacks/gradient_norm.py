"""A callback that records the norm of the gradients."""

from __future__ import annotations

from typing import Any

import keras
from aip_plugins.callbacks.due import due
from aip_plugins.callbacks.observe_params import GradientNormParams

from aipcore.training.callbacks.context import RunContext


class GradientNorm(keras.callbacks.Callback):
    """Mean and maximum of the global gradient norm over a few fixed batches, written to the run `train`.

    They are computed after the epoch in inference mode, so training stays bit-identical; see
    `RunProbe.gradient_norms`.
    """

    def __init__(self, params: GradientNormParams, context: RunContext) -> None:
        super().__init__()
        self.gradients = params
        self.context = context

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure the gradients in due epochs."""
        if not self.context.is_chief or not due(self, self.context, epoch, self.gradients.every_n_epochs):
            return
        norms = self.context.probe.gradient_norms(self.gradients.batches)
        values = {"gradient_norm/mean": sum(norms) / len(norms), "gradient_norm/max": max(norms)}
        self.context.events.scalars("train", epoch + 1, values)


def build(params: GradientNormParams, context: RunContext) -> GradientNorm:
    """Return the callback."""
    return GradientNorm(params, context)
