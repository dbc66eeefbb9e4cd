"""The fit loop: epochs of chunks, each epoch followed by validation, callbacks and a checkpoint."""

from __future__ import annotations

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
from aipcore.training.engine.chunks import Chunk, ChunkLoop
from aipcore.training.engine.learning_rate import is_due
from aipcore.training.lav import run_lists
from aipcore.training.monitor import stop_reason
from aipcore.training.params import TrainerParams
from aipcore.training.reporter import SAMPLES_PER_SECOND, EpochReport, Reporter, StepReport, ValidationReport
from aipcore.training.run_state import PLACE, RunState
from aipcore.training.setup import Engine
from aipcore.training.signals import Interrupted, Interruption
from aipcore.training.tensorboard.events import TRAIN_STEPS, VALIDATION_STEPS
from aipcore.training.tensorboard.profiler import BatchProfiler
from aipcore.training.tensorboard.summaries import SampleSummaries
from aipcore.training.updates import rate_logs


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
        model, state = self._model, self.state
        self.engine.phases.enter(*state.position)
        callbacks = RunCallbacks(
            self.callbacks,
            model=model,
            average=self.engine.average,
            epochs=state.epochs,
            steps=self.data.batching.steps,
        )
        model.stop_training = bool(state.stopped)
        self.profiler.begin(state.batches + 1, state.total_batches)
        callbacks.on_train_begin()
        state.load_callbacks()
        # A run that is killed in its first epoch must be resumed with the same seed and the same compiled loop.
        self.checkpoints.save(wait=True)
        while not self._must_stop() and state.epoch < state.epochs:
            self._run_epoch(callbacks)
        if self.interruption.received:
            # Callbacks may discard their state, or change the weights, when training ends.
            self.checkpoints.save()
        callbacks.on_train_end(state.history[-1] if state.history else {})

    def _run_epoch(self, callbacks: RunCallbacks) -> None:
        state, started = self.state, time.perf_counter()
        self.reporter.epoch_started(state.epoch + 1, state.epochs, state.epoch_end)
        if state.step == 0:
            self.engine.metrics.reset()
            self._enter_phase(callbacks, 0)
            callbacks.on_epoch_begin(state.epoch)
        if not self._run_chunks(callbacks):
            return
        if state.is_partial:
            # Resumed with a larger trainer.max_steps, the run continues within this epoch.
            self.checkpoints.save()
        before = state.monitor.state()
        try:
            self._validate_and_end_epoch(callbacks, started)
        except Interrupted:
            # The epoch's batches are done, but not its end: a resumed run begins with the validation.
            state.monitor.restore(before)
            state.stopped = ""

    def _run_chunks(self, callbacks: RunCallbacks) -> bool:
        """Train on the rest of an epoch; return False if a signal ends the run before the end of the epoch."""
        state = self.state
        # A signal may have ended the run before this validation, which may stop the run.
        validated = state.validated
        if not self._validate_within_epoch(callbacks):
            return False
        if state.validated > validated and self._must_stop():
            return self.interruption.received is None

        def begin(step: int) -> None:
            self._enter_phase(callbacks, step)
            callbacks.on_train_batch_begin(step)

        chunks = self.chunks.epoch(state.epoch, state.step, state.updates, begin)
        began = time.perf_counter()
        # Closed explicitly: an exception of a second signal would be lost during garbage collection of the generator.
        with closing(chunks):
            for chunk in chunks:
                block = chunk.block
                state.step = block.first + block.steps
                callbacks.on_train_batch_end(state.step - 1, chunk.logs)
                self.reporter.progress(state.step, block.steps * block.batch_size, chunk.logs)
                self._log_steps(callbacks, chunk, time.perf_counter() - began)
                self.checkpoints.check()
                if self._must_stop():
                    break
                if not self._validate_within_epoch(callbacks):
                    return False
                if self._must_stop():
                    break
                self.checkpoints.save_if_due()
                began = time.perf_counter()
            else:
                # The last batches may have had no usable sample.
                state.step = max(state.step, state.epoch_end)
        return self.interruption.received is None or state.step >= state.epoch_end

    def _log_steps(self, callbacks: RunCallbacks, chunk: Chunk, seconds: float) -> None:
        """Write the values of the logged updates of a chunk that took some seconds, with its throughput."""
        if not chunk.logged:
            return
        rate = {SAMPLES_PER_SECOND: chunk.block.steps * chunk.block.batch_size / seconds}
        points = [(each.step, {**each.logs, **rate}) for each in chunk.logged]
        self.run_writer.log_points(TRAIN_STEPS, points)
        epoch, epochs = self.state.epoch + 1, self.state.epochs
        for step, logs in points:
            callbacks.on_step_logged(step, logs)
            self.reporter.step_logged(StepReport(step=step, epoch=epoch, epochs=epochs, logs=logs))

    def _validate_within_epoch(self, callbacks: RunCallbacks) -> bool:
        """Validate if it is due before the end of the epoch; return False if a signal interrupts it."""
        state, monitor = self.state, self.state.monitor
        within = 0 < state.step < state.epoch_end
        if not (within and self._is_step_due() and state.validated < state.updates):
            return True
        started, previous = time.perf_counter(), monitor.best
        logs = self._training_logs()
        try:
            with self.engine.averaged():
                logs |= self._validate(callbacks)
        except Interrupted:
            return False
        is_best = self._judge(logs)
        self._record_validation(logs)
        if is_best and self.params.export_best:
            self.checkpoints.write_best()
        # Callbacks would write their files to the old place of the folder.
        self.run_writer.refuse_moved()
        callbacks.on_step_validation(state.updates, logs)
        self.reporter.validated(
            ValidationReport(
                step=state.updates,
                epoch=state.epoch + 1,
                epochs=state.epochs,
                seconds=time.perf_counter() - started,
                logs=logs,
                monitor=monitor.name,
                mode=monitor.mode,
                previous_best=previous,
                is_best=is_best,
            )
        )
        return True

    def _is_step_due(self) -> bool:
        every = self.params.val_every_steps
        return every is not None and self.state.updates % every == 0

    def _validate_and_end_epoch(self, callbacks: RunCallbacks, started: float) -> None:
        state, monitor = self.state, self.state.monitor
        epochs, previous = state.epochs, monitor.best
        last = state.epoch + 1 == epochs or self._model.stop_training
        every = self.params.val_every_n
        # A validation that stops the run within the epoch is not repeated.
        done = state.validations[-1] if 0 < state.validated == state.updates else None
        logs = self._training_logs()
        with self.engine.averaged():
            if done is not None:
                logs |= {name: value for name, value in done.items() if name not in PLACE}
            elif self.engine.validation and (
                last or self._is_step_due() or (every is not None and (state.epoch + 1) % every == 0)
            ):
                logs |= self._validate(callbacks)
            lav: dict[str, dict[str, float]] = {}
            notes: list[str] = []
            is_best = done is None and self._judge(logs)
            last = last or bool(state.stopped)
            if self.engine.lav and is_due(state.epoch, self.params.lav_every_n, last, first=self.params.lav_min_epoch):
                with self.interruption.breaking():
                    found = run_lists(self.scenario, self.engine.lav, is_chief=self.processes.is_chief)
                lav = found.results
                notes += found.texts
                for part, records in found.records.items():
                    self.run_writer.log_summaries(state.epoch + 1, records, part=part)
                logs |= {f"{part}_{name}": value for part, values in lav.items() for name, value in values.items()}
            if self.summaries is not None and is_due(state.epoch, self.params.summaries_every_n, last):
                self.run_writer.log_summaries(state.epoch + 1, self.summaries.make())
        if done is None:
            self._record_validation(logs)
        self._end_epoch(callbacks, logs, list(lav), is_best=is_best)
        if state.stopped:
            notes.insert(0, f"{state.stopped}.")
        self.reporter.epoch_ended(
            EpochReport(
                epoch=state.epoch,
                epochs=epochs,
                seconds=time.perf_counter() - started,
                logs=logs,
                monitor=monitor.name,
                mode=monitor.mode,
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

    def _training_logs(self) -> dict[str, float]:
        """Return the values of training so far, and make the model of all replicas equal for a validation."""
        logs = self.engine.metrics.result()
        logs |= rate_logs(self.engine.loop.updates)
        self.engine.distribution.unify(self._model.variables)
        return logs

    def _validate(self, callbacks: RunCallbacks) -> dict[str, float]:
        """Run the validation and the callbacks' hooks for it; return its results, with names that begin with `val_`.

        Raises:
            Interrupted: a signal was received.
        """
        assert self.engine.validation is not None
        callbacks.on_test_begin()
        with self.interruption.breaking():
            results = self.engine.validation.run(batch_hooks=callbacks.test_batches)
        callbacks.on_test_end(results)
        return {f"val_{name}": value for name, value in results.items()}

    def _judge(self, logs: Mapping[str, float]) -> bool:
        """Update the best value and stop the run if early stopping requires it; return True for a new best value."""
        state, epoch = self.state, self.state.epoch + 1
        is_best = state.monitor.update(epoch, logs, state.updates)
        by_validation = self.params.val_every_steps is not None
        if reason := stop_reason(self.params.early_stopping, state.monitor, epoch, logs, by_validation=by_validation):
            state.stopped = f"Early stopping: {reason}"
            self._model.stop_training = True
        return is_best

    def _record_validation(self, logs: Mapping[str, float]) -> None:
        """Add the results of a validation to the state and to TensorBoard, if the run validates by steps."""
        results = {name: value for name, value in logs.items() if name.startswith("val_")}
        if self.params.val_every_steps is None or not results:
            return
        state = self.state
        state.validations.append({"step": state.updates, "epoch": state.epoch + 1, **results})
        values = {name.removeprefix("val_"): value for name, value in results.items()}
        self.run_writer.log_points(VALIDATION_STEPS, [(state.updates, values)])

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
        state = self.state
        if is_best and self.params.export_best:
            # Save the evaluated weights now, because a callback may change them.
            self.checkpoints.write_best()
        # Callbacks would write their files to the old place of the folder.
        self.run_writer.refuse_moved()
        callbacks.on_epoch_end(state.epoch, dict(logs))
        state.history.append(logs)
        self.run_writer.log(state.epoch + 1, logs, lav)
        state.end_epoch()
        if self._must_stop() and self._model.stop_training:
            state.stopped = state.stopped or callbacks.why_stopped
        if not state.partial:
            self.checkpoints.save()
