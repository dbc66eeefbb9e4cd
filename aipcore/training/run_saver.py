"""Saves a run as it goes: checkpoints when they are due, and the best model when there is a better one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

from aipcore.params.resources import FOLDER as RESOURCES
from aipcore.training.formats import Format
from aipcore.training.model_writer import ModelWriter
from aipcore.training.run_state import snapshot
from aipcore.training.saving import SavePolicy
from aipcore.training.verify import some_batches

if TYPE_CHECKING:
    from aipcore.training.keeper import Keeper
    from aipcore.training.trainer import Trainer


def make_writer(trainer: Trainer, formats: Mapping[str, Format]) -> ModelWriter:
    """What writes a run's model, tried once unless the run writes nothing or is not to be checked.

    Raises:
        ScenarioError: the model cannot be served.
        FormatError: a format cannot express it.
    """
    folder = trainer.output_dir
    writer = ModelWriter(
        trainer.prediction,
        formats,
        {"aip": version("aipcore"), **trainer.about},
        further=trainer.further,
        resources=None if folder is None else folder / RESOURCES,
        batches=lambda: some_batches(trainer.data.val or trainer.data.train),
    )
    if folder is not None and not trainer.trainer.skip_sanity_check:
        writer.check()
    return writer


class RunSaver:
    """Decides, with all workers of the run alike, what the keeper writes.

    Attributes:
        kept_best: the monitored value of the model in `best`, if it may be better than the run knows.
    """

    def __init__(self, trainer: Trainer, keeper: Keeper) -> None:
        self._trainer = trainer
        self._keeper = keeper
        self._policy = SavePolicy(trainer.trainer.checkpoint)
        self._saved_at: tuple[int, int] | None = None
        self.kept_best: float | None = None

    def chunk(self, chunk: int) -> int:
        """The most batches in a chunk; see `SavePolicy.chunk`."""
        return self._policy.chunk(chunk)

    def is_saved(self) -> None:
        """The run goes on from a checkpoint of where it is."""
        self._saved_at = self._trainer.epoch, self._trainer.step

    def save_if_due(self) -> None:
        """Within an epoch; while one checkpoint is being written, the next waits for a later chunk."""
        if not self._policy.within_epochs:
            return
        due = self._policy.due(self._trainer.batches) and not self._keeper.busy
        if self._trainer.workers.broadcast("save", due):
            self.save()

    def save(self, *, wait: bool = False) -> None:
        """Writes a checkpoint of where the run is, unless there is one."""
        trainer = self._trainer
        here = trainer.epoch, trainer.step
        if not trainer.trainer.write_checkpoints or trainer.compilation is None or self._saved_at == here:
            return
        if self.diverged():
            trainer.reporter.warning(
                "The loss is not finite: no checkpoint is written, the last good one stays; --callbacks TerminateOnNaN "
                "ends such a run."
            )
            return
        if self._keeper.folder is None and trainer.workers.count == 1:
            return
        # The one before has to be done first, so that memory holds what one checkpoint keeps from changing, not two.
        self._keeper.drain()
        # The chief writes, but all workers have a part of the state.
        state = snapshot(trainer)
        saved = self._keeper.write_checkpoint(trainer.batches, state, wait=wait)
        if trainer.workers.broadcast("saved", saved):
            self._saved_at = here
        # After a failure, too, the next one is tried when the next is due.
        self._policy.saved(trainer.batches)

    def diverged(self) -> bool:
        """Whether the loss is no number, so that neither a checkpoint nor a model is worth keeping."""
        trainer = self._trainer
        if trainer.step:
            return not math.isfinite(trainer.metrics.result()["loss"])
        return bool(trainer.history) and not math.isfinite(trainer.history[-1]["loss"])

    def write_best(self) -> None:
        """Writes the model to `best`, with the value that makes it the best."""
        monitor = self._trainer.monitor
        assert monitor.best is not None
        if self.kept_best is not None and monitor.beats(self.kept_best, monitor.best):
            # The model in `best` is of a later epoch than the checkpoint that this run went on from.
            return
        self.kept_best = None
        note = {"mode": monitor.mode, "name": monitor.name, "value": monitor.best, "epoch": monitor.best_epoch}
        with self._trainer.averaged():
            self._keeper.write_model("best", {"monitor": note})
