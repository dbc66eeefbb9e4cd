"""A callback that reduces the learning rate when the monitored value stops improving."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import keras
from aip_plugins.callbacks.params import ReduceOnPlateauParams

from aipcore.params.names import count
from aipcore.training.callbacks.context import RunContext

logger = logging.getLogger("aipcore.callbacks")


class ReduceOnPlateau(keras.callbacks.Callback):
    """A reduction of the schedule's scale on plateaus. Works with every schedule, which itself stays unchanged.

    With `trainer.val_every_steps`, each validation counts like an epoch, also within an epoch.

    An epoch improves if the monitored value beats the best by more than `min_delta`. After `patience` epochs in a row
    without improvement, the scale is multiplied by `factor`, but not below `min_scale`. Then counting pauses for
    `cooldown` epochs. Epochs without validation are ignored.
    """

    def __init__(self, params: ReduceOnPlateauParams, context: RunContext) -> None:
        super().__init__()
        self.plateau = params
        self.context = context
        self.best: float | None = None
        self.waited = 0
        self.cooling = 0
        self._compared: int | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compare the epoch with the best one, unless its values are those of the last `on_step_validation`."""
        if self._compared is None or self._compared != self.context.updates():
            self._compare(logs or {}, f"Epoch {epoch + 1}", "epoch")

    def on_step_validation(self, step: int, logs: dict[str, Any]) -> None:
        """Compare the validation with the best one."""
        self._compared = self.context.updates()
        self._compare(logs, f"Update {step:,}", "validation")

    def _compare(self, logs: Mapping[str, float], place: str, unit: str) -> None:
        value = logs.get(self.context.monitor[1])
        if value is None:
            return
        in_cooldown = self.cooling > 0
        if in_cooldown:
            self.cooling -= 1
            self.waited = 0
        if self._improves(float(value)):
            self.best, self.waited = float(value), 0
        elif not in_cooldown:
            self.waited += 1
            if self.waited >= self.plateau.patience:
                self._reduce(place, unit)

    def get_state(self) -> dict[str, Any]:
        """Return the best value and the counters; the scale itself is one of the run's variables."""
        return {"best": self.best, "waited": self.waited, "cooling": self.cooling}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore the state of `get_state`."""
        self.best = None if state["best"] is None else float(state["best"])
        self.waited, self.cooling = int(state["waited"]), int(state["cooling"])

    def _improves(self, value: float) -> bool:
        if self.best is None:
            return value == value  # noqa: PLR0124 - NaN is not a first best value either
        margin = self.plateau.min_delta
        return value < self.best - margin if self.context.monitor[0] == "min" else value > self.best + margin

    def _reduce(self, place: str, unit: str) -> None:
        scale = self.context.learning_rate.scale
        old = float(scale.numpy())
        new = max(old * self.plateau.factor, self.plateau.min_scale)
        self.waited, self.cooling = 0, self.plateau.cooldown
        if new < old:
            scale.assign(new)
            logger.info(
                "%s: %s has not improved for %s. The learning rate is now %.3g times the scheduled one.",
                place,
                self.context.monitor[1],
                count(self.plateau.patience, unit),
                new,
            )


def build(params: ReduceOnPlateauParams, context: RunContext) -> ReduceOnPlateau:
    """Return the callback."""
    return ReduceOnPlateau(params, context)
