"""The checkpoint manager: when checkpoints are due, and which model is the best."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aipcore.data.dataset import Dataset
from aipcore.distributed.process_group import ProcessGroup
from aipcore.params.resources import FOLDER as RESOURCES
from aipcore.scenario.preprocessing import Preprocessing, with_preprocessing
from aipcore.training.checkpoint.run_writer import RunWriter
from aipcore.training.export.formats import Format
from aipcore.training.export.verify import some_batches
from aipcore.training.export.writer import ModelWriter
from aipcore.training.params import CheckpointParams, TrainerParams
from aipcore.training.run_state import RunState, kept_best
from aipcore.training.setup import Engine


def make_writer(
    model: Engine,
    formats: Mapping[str, Format],
    about: Mapping[str, Any],
    *,
    output_dir: Path | None,
    samples: Dataset,
    preprocessing: Preprocessing | None,
    check: bool,
) -> ModelWriter:
    """Return the writer of a run's model, after one trial write unless the run writes nothing.

    Args:
        model: the model of the run.
        formats: export formats by name.
        about: values to record beside the model.
        output_dir: the run folder, or None.
        samples: processed samples, to compare outputs for.
        preprocessing: the preprocessing in front of the model, or None.
        check: if True, do the trial write.

    Raises:
        ScenarioError: the model cannot be served.
        FormatError: a format does not support the model.
    """
    writer = ModelWriter(
        with_preprocessing(model.prediction, preprocessing),
        formats,
        {"aip": version("aipcore"), **about},
        further={name: with_preprocessing(graph, preprocessing) for name, graph in model.further.items()},
        resources=None if output_dir is None else output_dir / RESOURCES,
        batches=lambda: some_batches(samples),
    )
    if output_dir is not None and check:
        writer.check()
    return writer


class SavePolicy:
    """The schedule of checkpoints within an epoch, by steps or by minutes since the last one.

    The result of training does not depend on it. Minutes are measured with a monotonic clock.
    """

    def __init__(self, params: CheckpointParams, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_steps = params.every_steps
        self._every_seconds = None if params.every_minutes is None else 60 * params.every_minutes
        self._clock = clock
        self._step = 0
        self._time = clock()

    @property
    def within_epochs(self) -> bool:
        """True if checkpoints may be due before an epoch ends."""
        return self._every_steps is not None or self._every_seconds is not None

    def chunk(self, chunk: int) -> int:
        """Return the most batches in a chunk, at most `chunk`, so that chunks end where checkpoints are due."""
        if self._every_steps is None:
            return chunk
        pieces = -(-self._every_steps // chunk)
        return -(-self._every_steps // pieces)

    def due(self, step: int) -> bool:
        """Return True if a checkpoint is due, `step` batches into the run."""
        if self._every_steps is not None and step // self._every_steps > self._step // self._every_steps:
            return True
        return self._every_seconds is not None and self._clock() - self._time >= self._every_seconds

    def saved(self, step: int) -> None:
        """Restart the count at this checkpoint."""
        self._step, self._time = step, self._clock()


class CheckpointManager:
    """The owner of all decisions to write checkpoints and models, identical on all workers of the run.

    Args:
        state: the state of the run.
        run_writer: writes on the chief.
        processes: the processes of the run.
        params: the trainer's parameters, which set when to save.
        about: the identity of the run.
        running_loss: returns the mean loss of the current epoch so far.
        averaged: a context in which the model has the averaged weights.
        warn: shows a warning to the user.
    """

    def __init__(
        self,
        state: RunState,
        run_writer: RunWriter,
        processes: ProcessGroup,
        *,
        params: TrainerParams,
        about: Mapping[str, Any],
        running_loss: Callable[[], float],
        averaged: Callable[[], AbstractContextManager[None]],
        warn: Callable[[str], None],
    ) -> None:
        self._state = state
        self._run_writer = run_writer
        self._processes = processes
        self._writes = params.write_checkpoints
        self._policy = SavePolicy(params.checkpoint)
        self._about = about
        self._running_loss = running_loss
        self._averaged = averaged
        self._warn = warn
        self._saved_at: tuple[int, int] | None = None
        # The monitored value of the model in `best`, if it may be better than the best value known to the run.
        self._kept_best: float | None = None

    def chunk(self, chunk: int) -> int:
        """Return the most batches in a chunk; see `SavePolicy.chunk`."""
        return self._policy.chunk(chunk)

    def resumed(self) -> None:
        """Record that the state was restored from a checkpoint, which need not be written again.

        Raises:
            TrainingError: the workers are at different positions.
        """
        self._saved_at = self._state.position
        folder = self._run_writer.folder
        best = None if folder is None else kept_best(folder / "best", self._state.monitor)
        self._kept_best = self._processes.broadcast("the model in best", best)
        self._processes.require_same({"the checkpoint": list(self._state.position)})

    def check(self) -> None:
        """Between two chunks, report failed checkpoints, and end a run whose folder was moved.

        Such a run writes a last checkpoint, unless other workers would have to take part.

        Raises:
            TrainingError: see `RunWriter.check` and `RunWriter.refuse_moved`.
        """
        self._run_writer.check()
        if self._run_writer.is_moved() and self._processes.count == 1:
            self.save()
        self._run_writer.refuse_moved()

    def save_if_due(self) -> None:
        """Save a checkpoint within an epoch if one is due; if one is still being written, wait for a later chunk."""
        if not self._policy.within_epochs:
            return
        due = self._policy.due(self._state.batches) and not self._run_writer.busy
        if self._processes.broadcast("save", due):
            self.save()

    def save(self, *, wait: bool = False) -> None:
        """Write a checkpoint of the current position, unless one exists.

        Raises:
            TrainingError: it could not be written, or the run folder was moved. In that case it is in the moved folder.
        """
        self._save(wait=wait)
        self._run_writer.refuse_moved()

    def _save(self, *, wait: bool) -> None:
        here = self._state.position
        if not self._writes or self._state.compilation is None or self._saved_at == here:
            return
        if self.diverged():
            self._warn(
                "The loss is not finite. No checkpoint is written, and the last good one is kept. "
                "--callbacks TerminateOnNaN ends such a run."
            )
            return
        if self._run_writer.folder is None and self._processes.count == 1:
            return
        # Finish the previous checkpoint first, so that memory holds only one copy of the state.
        self._run_writer.drain()
        # The chief writes, but all workers have a part of the state.
        state = self._state.snapshot(self._about)
        saved = self._run_writer.write_checkpoint(self._state.batches, state, wait=wait)
        if self._processes.broadcast("saved", saved):
            self._saved_at = here
        # After a failure, too, the next attempt waits until the next checkpoint is due.
        self._policy.saved(self._state.batches)

    def diverged(self) -> bool:
        """Return True if the loss is not finite, so that neither a checkpoint nor a model is worth keeping."""
        if self._state.step:
            return not math.isfinite(self._running_loss())
        return bool(self._state.history) and not math.isfinite(self._state.history[-1]["loss"])

    def write_best(self) -> None:
        """Write the model to `best`, with the monitored value that makes it the best."""
        monitor = self._state.monitor
        assert monitor.best is not None
        if self._kept_best is not None and monitor.beats(self._kept_best, monitor.best):
            # The model in `best` is from a later epoch than the checkpoint that this run was resumed from.
            return
        self._kept_best = None
        note = {"mode": monitor.mode, "name": monitor.name, "value": monitor.best, "epoch": monitor.best_epoch}
        note["step"] = monitor.best_step
        with self._averaged():
            self._run_writer.write_model("best", {"monitor": note})
