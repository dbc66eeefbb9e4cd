"""The fit loop: epochs of chunks, each epoch followed by validation, callbacks and a checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import attrs

from aipcore.distributed.process_group import ProcessGroup
from aipcore.scenario.scenario import Scenario
from aipcore.training.callbacks.callback_list import RunCallbacks
from aipcore.training.checkpoint.manager import CheckpointManager
from aipcore.training.checkpoint.run_writer import RunWriter
from aipcore.training.data import RunData
from aipcore.training.engine.chunks import ChunkLoop
from aipcore.training.engine.learning_rate import is_due, last_rate
from aipcore.training.lav import run_lists
from aipcore.training.monitor import stop_reason
from aipcore.training.params import TrainerParams
from aipcore.training.reporter import EpochReport, Reporter
from aipcore.training.run_state import RunState
from aipcore.training.setup import Engine
from aipcore.training.signals import Interrupted, Interruption
from aipcore.training.tensorboard.profiler import BatchProfiler
from aipcore.training.tensorboard.summaries import SampleSummaries


@attrs.frozen(kw_only=True, eq=False)
class FitLoop:
    """The loop over epochs and chunks of a run.

    Attributes:
        scenario: the scenario, which creates evaluators.
        params: the training parameters.
        data: the data of the run.
        engine: the model and its compiled steps.
        state: the state of the run, which the loop advances.
        callbacks: callbacks by name.
        processes: the processes of the run.
        reporter: receives the progress.
        run_writer: writes logs and models.
        checkpoints: writes checkpoints and the best model.
        chunks: the compiled loop over the chunks of an epoch.
        summaries: the scenario's summaries for TensorBoard, or None.
        interruption: the interruption by a signal.
        profiler: traces some batches.
    """

    scenario: Scenario
    params: TrainerParams
    data: RunData
    engine: Engine
    state: RunState
    callbacks: Mapping[str, Any]
    processes: ProcessGroup
    reporter: Reporter
    run_writer: RunWriter
    checkpoints: CheckpointManager
    chunks: ChunkLoop
    summaries: SampleSummaries | None
    interruption: Interruption
    profiler: BatchProfiler

    @property
    def _model(self) -> Any:
        return self.engine.graph.model

    def run(self) -> None:
        """Train from the state of the run to its last epoch, or until it is stopped.

        Raises:
            Interrupted: a signal was received before the first batch.
            TrainingError: nothing can be saved.
        """
        model = self._model
        self.engine.phases.enter(*self.state.position)
        callbacks = RunCallbacks(
            self.callbacks,
            model=model,
            average=self.engine.average,
            epochs=self.params.epochs,
            steps=self.data.batching.steps,
        )
        model.stop_training = bool(self.state.stopped)
        self.profiler.begin(self.state.batches + 1, self.data.batching.steps * self.params.epochs)
        callbacks.on_train_begin()
        self.state.load_callbacks()
        # A run that is killed in its first epoch must be resumed with the same seed and the same compiled loop.
        self.checkpoints.save(wait=True)
        while not self._must_stop() and self.state.epoch < self.params.epochs:
            self._run_epoch(callbacks)
        if self.interruption.received:
            # Callbacks may discard their state, or change the weights, when training ends.
            self.checkpoints.save()
        callbacks.on_train_end(self.state.history[-1] if self.state.history else {})

    def _run_epoch(self, callbacks: RunCallbacks) -> None:
        started = time.perf_counter()
        self.reporter.epoch_started(self.state.epoch + 1, self.params.epochs, self.data.batching.steps)
        if self.state.step == 0:
            self.engine.metrics.reset()
            self._enter_phase(callbacks, 0)
            callbacks.on_epoch_begin(self.state.epoch)
        self._run_chunks(callbacks)
        if self.interruption.received and self.state.step < self.data.batching.steps:
            return
        before = self.state.monitor.state()
        try:
            self._validate_and_end_epoch(callbacks, started)
        except Interrupted:
            # The epoch's batches are done, but not its end: a resumed run begins with the validation.
            self.state.monitor.restore(before)
            self.state.stopped = ""

    def _validate_and_end_epoch(self, callbacks: RunCallbacks, started: float) -> None:
        logs = self.engine.metrics.result()
        logs["learning_rate"] = last_rate(self.engine.optimizer)
        last = self.state.epoch + 1 == self.params.epochs or self._model.stop_training
        if self.engine.average is not None:
            logs["ema_rate"] = self.engine.average.rate
        self.engine.distribution.unify(self._model.variables)
        with self.engine.averaged():
            if self.engine.validation and ((self.state.epoch + 1) % self.params.val_every_n == 0 or last):
                callbacks.on_test_begin()
                with self.interruption.breaking():
                    results = self.engine.validation.run(batch_hooks=callbacks.test_batches)
                callbacks.on_test_end(results)
                logs |= {f"val_{name}": value for name, value in results.items()}
            lav: dict[str, dict[str, float]] = {}
            notes: list[str] = []
            previous = self.state.monitor.best
            # Weights that are not finite can still score well by chance, so such an epoch is never the best.
            is_best = math.isfinite(logs["loss"]) and self.state.monitor.update(self.state.epoch + 1, logs)
            if reason := stop_reason(self.params.early_stopping, self.state.monitor, self.state.epoch + 1, logs):
                self.state.stopped = f"Early stopping: {reason}"
                self._model.stop_training = True
            last = last or bool(reason)
            if self.engine.lav and is_due(
                self.state.epoch, self.params.lav_every_n, last, first=self.params.lav_min_epoch
            ):
                with self.interruption.breaking():
                    found = run_lists(self.scenario, self.engine.lav, is_chief=self.processes.is_chief)
                lav = found.results
                notes += found.texts
                for part, records in found.records.items():
                    self.run_writer.log_summaries(self.state.epoch + 1, records, part=part)
                logs |= {f"{part}_{name}": value for part, values in lav.items() for name, value in values.items()}
            if self.summaries is not None and is_due(self.state.epoch, self.params.summaries_every_n, last):
                self.run_writer.log_summaries(self.state.epoch + 1, self.summaries.make())
        self._end_epoch(callbacks, logs, list(lav), is_best=is_best)
        if self.state.stopped:
            notes.insert(0, f"{self.state.stopped}.")
        self.reporter.epoch_ended(
            EpochReport(
                epoch=self.state.epoch,
                epochs=self.params.epochs,
                seconds=time.perf_counter() - started,
                logs=logs,
                monitor=self.state.monitor.name,
                previous_best=previous,
                is_best=is_best,
                lav=tuple(lav),
            )
        )
        if not last and (asked := self.reporter.stop_reason()):
            # Not stored in `stopped`, which is saved: this ends the process, not the run.
            self._model.stop_training = True
            notes.append(asked)
        for text in (*notes, *self.data.skipped()):
            self.reporter.message(text)

    def _run_chunks(self, callbacks: RunCallbacks) -> None:
        def begin(step: int) -> None:
            self._enter_phase(callbacks, step)
            callbacks.on_train_batch_begin(step)

        chunks = self.chunks.epoch(self.state.epoch, self.state.step, begin)
        # Closed explicitly: an exception of a second signal would be lost during garbage collection of the generator.
        with closing(chunks):
            for block, logs in chunks:
                self.state.step = block.first + block.steps
                callbacks.on_train_batch_end(self.state.step - 1, logs)
                self.reporter.progress(self.state.step, block.steps * block.batch_size, logs)
                self.checkpoints.check()
                if self._must_stop():
                    break
                self.checkpoints.save_if_due()

    def _enter_phase(self, callbacks: RunCallbacks, step: int) -> None:
        phase = self.engine.phases.enter(self.state.epoch, step)
        if phase is not None:
            callbacks.accept_trainable()
            self.reporter.message(f"From {phase.label} on: {' '.join(phase.effects)}.")

    def _must_stop(self) -> bool:
        """Return True if a callback, early stopping or a signal ends the run; identical on all workers."""
        model = self._model
        model.stop_training = self.interruption.agree(self.processes, stop=bool(model.stop_training))
        return bool(model.stop_training or self.interruption.received)

    def _end_epoch(self, callbacks: RunCallbacks, logs: dict[str, float], lav: list[str], *, is_best: bool) -> None:
        if is_best and self.params.export_best:
            # Save the evaluated weights now, because a callback may change them.
            self.checkpoints.write_best()
        # Callbacks would write their files to the old place of the folder.
        self.run_writer.refuse_moved()
        callbacks.on_epoch_end(self.state.epoch, dict(logs))
        self.state.history.append(logs)
        self.run_writer.log(self.state.epoch + 1, logs, lav)
        self.state.epoch += 1
        self.state.step = 0
        if self._must_stop() and self._model.stop_training:
            self.state.stopped = self.state.stopped or callbacks.why_stopped
        self.checkpoints.save()
