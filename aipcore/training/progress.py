"""What a trainer saves while it trains: its progress, and the best and the final model. All workers call the same."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from aipcore.training.keeper import Keeper
from aipcore.training.resume import snapshot
from aipcore.training.saving import SavePolicy

if TYPE_CHECKING:
    from aipcore.training.trainer import Trainer


class Progress:
    """Saves the state of a trainer and its models.

    Attributes:
        policy: when checkpoints are due within an epoch.
        saved_at: the epoch and batch of the last checkpoint, or None.
        kept_best: the monitored value of a model in `best` that the run's history does not know of, or None.
    """

    def __init__(self, trainer: Trainer, keeper: Keeper) -> None:
        self._trainer = trainer
        self._keeper = keeper
        self.policy = SavePolicy(trainer.trainer.checkpoint)
        self.saved_at: tuple[int, int] | None = None
        self.kept_best: float | None = None

    def save_if_due(self) -> None:
        """Writes a checkpoint within an epoch if it is time.

        Raises:
            TrainingError: one could not be written, and `checkpoint.on_error` is raise.
        """
        self._keeper.check()
        if not self.policy.active:
            return
        # While one checkpoint is being written, the next waits for the end of a later chunk; the chief knows.
        due = self.policy.due(self._trainer.batches) and not self._keeper.busy
        if self._trainer.workers.broadcast("save", due):
            self.save()

    def save(self, *, wait: bool = False) -> None:
        """Writes a checkpoint, unless there is one of this very position.

        Args:
            wait: whether to return only when it is on the disk.

        Raises:
            TrainingError: one could not be written, and `checkpoint.on_error` is raise.
        """
        trainer, here = self._trainer, (self._trainer.epoch, self._trainer.step)
        if not trainer.trainer.write_checkpoints or trainer.compilation is None or self.saved_at == here:
            return
        # After a failure, too, the next one is tried when the next is due.
        self.saved_at = here
        self.policy.saved(trainer.batches)
        if self.diverged():
            trainer.reporter.warning("The loss is not finite: no checkpoint is written, the last good one stays.")
            return
        if self._keeper.folder is None and trainer.workers.count == 1:
            return
        # The one before has to be done first, so that memory holds one copy of the state and not two.
        self._keeper.drain()
        self._keeper.write_checkpoint(trainer.batches, snapshot(trainer), wait=wait)

    def diverged(self) -> bool:
        """Whether the loss is no finite number any more."""
        trainer = self._trainer
        if trainer.step:
            return not math.isfinite(trainer.metrics.result()["loss"])
        return bool(trainer.history) and not math.isfinite(trainer.history[-1]["loss"])

    def write_best(self) -> None:
        """Writes the model to `best`, unless a better one is there, of an epoch after that of the checkpoint.

        Raises:
            TrainingError: it cannot be written, and `checkpoint.on_error` is raise.
        """
        monitor = self._trainer.monitor
        assert monitor.best is not None
        if self.kept_best is not None and monitor.beats(self.kept_best, monitor.best):
            return
        self.kept_best = None
        note = {"mode": monitor.mode, "name": monitor.name, "value": monitor.best, "epoch": monitor.best_epoch}
        with self._trainer.averaged():
            self._keeper.write_model("best", {"monitor": note})

    def write_export(self) -> None:
        """Writes the final model to `export`.

        Raises:
            TrainingError: it cannot be written, and `checkpoint.on_error` is raise.
        """
        with self._trainer.averaged():
            self._keeper.write_model("export", {"epoch": self._trainer.epoch})
