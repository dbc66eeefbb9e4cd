"""A callback that shows the distribution of the weights, epoch by epoch."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from aip_plugins.callbacks.due import due
from aip_plugins.callbacks.observe_params import WeightHistogramsParams

from aipcore.scenario.paths import matching
from aipcore.scenario.summaries import Histogram
from aipcore.training.callbacks.context import RunContext

MOST_VALUES = 1_000_000
"""The most values of a weight to count; larger weights are sampled evenly."""


class WeightHistograms(keras.callbacks.Callback):
    """A histogram of each trained weight. Non-finite values are left out."""

    def __init__(self, params: WeightHistogramsParams, context: RunContext) -> None:
        super().__init__()
        self.histograms = params
        self.context = context
        self._weights: list[Any] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Find the weights to show.

        Raises:
            ParamsError: no path of a weight matches.
        """
        weights = {weight.path: weight for weight in self.model.trainable_variables}
        pattern, option = self.histograms.include, "--callbacks.WeightHistograms.include"
        paths = matching(pattern, list(weights), option, "trained variable", whole=False)
        self._weights = [weights[path] for path in paths]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the histograms in due epochs."""
        if not self.context.is_chief or not due(self, self.context, epoch, self.histograms.every_n_epochs):
            return
        records = []
        for weight in self._weights:
            values = keras.ops.convert_to_tensor(weight).numpy().reshape(-1)
            values = values[:: -(-values.size // MOST_VALUES)].astype(np.float64)
            values = values[np.isfinite(values)]
            if values.size:
                records.append(Histogram(f"weights/{weight.path}", values))
        self.context.events.summaries("train", epoch + 1, records)


def build(params: WeightHistogramsParams, context: RunContext) -> WeightHistograms:
    """Return the callback."""
    return WeightHistograms(params, context)
