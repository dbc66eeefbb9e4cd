"""The trainer: sets a run up, drives the compiled loop and the callbacks, validates, and saves."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

import attrs
import keras

from aipcore.devices.distribution import make_distribution
from aipcore.devices.selection import make_deterministic
from aipcore.devices.workers import Workers
from aipcore.errors import author_errors
from aipcore.params import Resolved
from aipcore.params.resources import planned_copies
from aipcore.scenario.author_names import check_scenario
from aipcore.scenario.graph import signatures_of
from aipcore.scenario.params import ScenarioParams
from aipcore.scenario.scenario import Scenario
from aipcore.training.agreement import agreed_seed, alone, require_same_run
from aipcore.training.batch_hooks import wants_batches
from aipcore.training.checkpoint import Checkpoint, read_checkpoint
from aipcore.training.chunks import ChunkLoop
from aipcore.training.context import run_context
from aipcore.training.early_stopping import stop_reason
from aipcore.training.ending import telling_callbacks
from aipcore.training.extended_validation import run_lists
from aipcore.training.fingerprint import source_fingerprint
from aipcore.training.horizon import is_due
from aipcore.training.interrupt import Interrupted, Interruption
from aipcore.training.keeper import Keeper
from aipcore.training.memory import peak_memory
from aipcore.training.output_dir import choose_output_dir
from aipcore.training.params import POLICIES, TrainerParams
from aipcore.training.plan import describe_run
from aipcore.training.prepare import Parts, dtype_policy_kept, prepare_model
from aipcore.training.profile import BatchProfiler
from aipcore.training.reporter import EpochReport, Reporter, TrainResult
from aipcore.training.request import AnyScenario, Request, request_of
from aipcore.training.run_callbacks import RunCallbacks, make_callbacks
from aipcore.training.run_data import closing_data, prepare_data
from aipcore.training.run_saver import RunSaver, make_writer
from aipcore.training.run_state import restore, restore_callbacks
from aipcore.training.sanity import first_steps_check
from aipcore.training.session import Opening, Output, logged_folder, open_output, start_tensorflow
from aipcore.training.setup import about_run, make_parts
from aipcore.training.summaries import make_summaries
from aipcore.training.tuning import Compilation, choose_compilation


class Trainer:
    """One run of one scenario.

    `from_scenario` makes one. Everything that the run depends on is made in the constructor; `fit` computes. Nothing is
    written before `fit`, and nothing at all if there is no `output_dir`.

    Args:
        scenario: the scenario, made with its parameters.
        params: the run's parameters: the scenario's and `trainer`.
        name: the scenario's name, for titles.
        parts: optimizer, schedule, callbacks and exporters.
        output_dir: an existing folder of this run alone, or None to write nothing.
        about: what to record beside checkpoints and models: resolved parameters, plugin versions.
        reporter: hears of the progress.
        workers: this process and those that train with it, of which only the chief has an `output_dir`.
        opening: makes the folder ready when training begins; by default it is.
        owns_process: whether a run that ignores a signal may end the process.

    Raises:
        DataError, ScenarioError: the data or the scenario cannot be used, and why.
    """

    @classmethod
    @author_errors()
    def from_scenario(
        cls,
        scenario: AnyScenario,
        params: Mapping[str, Any] | None = None,
        output_dir: str | os.PathLike[str] | None = None,
        *,
        reporter: Reporter | None = None,
        quiet: bool = False,
    ) -> Trainer:
        """Make the trainer of a run, with data, model and optimizer, to look at before `fit` trains it.

        Args:
            scenario: see `train`.
            params: see `train`.
            output_dir: the run's folder; None: nothing is written, unless `params` name one.
            reporter: see `train`.
            quiet: see `train`.

        Raises:
            AipError: a parameter, the scenario or the folder cannot be used.
        """
        request = request_of(scenario, params, output_dir)
        resolved = request.checked()
        folder = resolved.value.trainer.output_dir and choose_output_dir(
            resolved.value.trainer.output_dir, request.scenario.name
        )
        start_tensorflow(resolved.value.trainer.device)
        shown = open_output(Output(reporter=reporter, quiet=quiet))
        opening = logged_folder(shown, folder, planned_copies(resolved.value, request.plugins)[1])
        return cls.from_request(request, resolved, output_dir=folder, reporter=shown.reporter, opening=opening)

    @classmethod
    def from_request(
        cls, request: Request, resolved: Resolved[Any] | None = None, *, output_dir: Path | None, **more: Any
    ) -> Trainer:
        """Make a trainer of what a request names.

        Args:
            request: the scenario and its parameters.
            resolved: these, checked; by default only resolved.
            output_dir: see the constructor.
            more: other arguments of the constructor, in the place of what follows from the request.
        """
        resolved = resolved or request.resolved()
        params = resolved.value
        values = {
            "name": request.scenario.name,
            "about": about_run(request.scenario, resolved, request.plugins),
            **more,
        }
        parts = values.pop("parts", None) or make_parts(params.trainer, request.plugins)
        return cls(request.scenario.cls(params), params, parts=parts, output_dir=output_dir, **values)

    @author_errors()
    @dtype_policy_kept()
    @closing_data
    def __init__(
        self,
        scenario: Scenario,
        params: ScenarioParams,
        *,
        name: str,
        parts: Parts,
        output_dir: Path | None,
        about: Mapping[str, Any] | None = None,
        reporter: Reporter | None = None,
        workers: Workers | None = None,
        opening: Opening | None = None,
        owns_process: bool = False,
    ) -> None:
        self._opening = opening
        check_scenario(type(scenario))
        self.scenario = scenario
        self.params = params
        self.name = name
        self.output_dir = output_dir
        self.about = dict(about or {})
        self.reporter = reporter or Reporter()
        self.trainer: TrainerParams = params.trainer  # type: ignore[attr-defined]
        self.workers = workers or alone(self.trainer.device.strategy)
        self.seed = agreed_seed(self.workers, self.trainer.random_seed)
        # Names of variables must not depend on what else was built in this process: checkpoints go by them.
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(self.seed % 2**32)
        if self.trainer.deterministic:
            make_deterministic()
        keras.config.set_dtype_policy(POLICIES[self.trainer.precision])
        self.data = prepare_data(scenario, params, self.trainer, self.seed)
        self.batching = self.data.batching
        require_same_run(self.workers, self.about, self.batching.samples)
        self.distribution = make_distribution(self.trainer.device.strategy, self.batching.batch_size, self.workers)
        self.data.feed.share = self.distribution.share
        made = prepare_model(scenario, params, self.trainer, self.data, parts, self.distribution)
        self.graph, self.prediction, self.further = made.graph, made.prediction, made.further
        self.about |= {
            "seed": self.seed,
            "fingerprint": {"source": source_fingerprint(type(scenario)), "data": self.data.fingerprint},
            **signatures_of(made.graph, made.prediction, made.further),
        }
        self.learning_rate, self.optimizer = made.learning_rate, made.optimizer
        self.metrics, self.loop, self.feed = made.metrics, made.loop, made.feed
        self.validation, self.lav = made.validation, made.lav
        self.monitor = made.monitor
        self.average, self.frozen = made.average, made.frozen
        self.warm_start = made.warm_start
        self.epoch = self.step = 0
        self.history: list[dict[str, float]] = []
        self.stopped = ""
        self.pending_states: dict[str, tuple[Any, Any]] = {}
        self.compilation: Compilation | None = None
        context = run_context(self, lambda: self._keeper)
        self.callbacks = make_callbacks(parts.callbacks, context, self.metrics.sets[0].by_name)
        self.per_batch = [name for name, callback in self.callbacks.items() if wants_batches(callback)]
        self.state = made.state()
        alone_here, grace = self.workers.count == 1, self.trainer.grace_seconds
        self._interruption = Interruption(self.reporter.message, grace, alone=alone_here, owns_process=owns_process)
        self._keeper = Keeper(
            output_dir, make_writer(self, parts.formats), params=self.trainer.checkpoint, warn=self.reporter.warning
        )
        self.saver = RunSaver(self, self._keeper)
        self._summaries = None if output_dir is None else make_summaries(scenario, self.trainer, made)
        # What is traced runs in calls of its own, which all workers must make.
        traced = self.trainer.profile and (output_dir is not None or not self.workers.is_chief)
        traces = self.workers.folder(output_dir) / "tensorboard" if traced else None
        self._profiler = BatchProfiler(traces, self.trainer.profile_steps, self.batching.steps, self.reporter)
        self._look = None if self.trainer.skip_sanity_check else first_steps_check(self.optimizer)
        self._chunks = ChunkLoop(
            self.loop,
            self.feed,
            self.metrics,
            self._profiler,
            self.batching,
            accumulate_steps=self.trainer.accumulate_steps,
            epochs=self.trainer.epochs,
            # Left-out samples are counted when they are met: those of the next epoch would count in this one.
            across=params.data.on_error == "raise",
            check=self._look,
        )

    @author_errors()
    @closing_data
    def restore(self, checkpoint: Path | Checkpoint, *, recompile: bool = False, restart: bool = False) -> None:
        """Continue from a complete checkpoint, which is not written again; see `aipcore.training.run_state.restore`.

        Args:
            checkpoint: its folder, or what was read from it.
            recompile: whether to choose again how the loop is compiled.
            restart: whether to train further if the run had stopped before its last epoch.

        Raises:
            TrainingError: it is damaged, or of another model.
        """
        restore(self, read_checkpoint(checkpoint) if isinstance(checkpoint, Path) else checkpoint, recompile=recompile)
        if restart:
            self.stopped = ""
        self.saver.is_saved()

    @author_errors()
    def compile(self) -> Compilation:
        """Measures how this run is best compiled, by the chief's clock, unless it may not; leaves its state as it was.

        Raises:
            TrainingError: the model cannot be compiled as asked.
        """
        chosen = choose_compilation(
            self.loop,
            self.feed,
            self.state,
            tune=self.trainer.tune,
            jit_compile=self.trainer.jit_compile,
            eager=self.trainer.force_eager,
            total_steps=self.batching.steps * self.trainer.epochs,
            look=self._look,
        )
        return Compilation(**self.workers.broadcast("compilation", attrs.asdict(chosen)))

    @author_errors()
    @dtype_policy_kept()
    @closing_data
    def fit(self) -> TrainResult:
        """Train to the end, to a callback's stop, or to a signal, and save.

        Raises:
            TrainingError: nothing can be saved, or the model cannot be compiled as asked.
        """
        keras.config.set_dtype_policy(POLICIES[self.trainer.precision])
        if self._opening is None:
            return self._fit()
        # What cannot be compiled leaves no folder behind.
        self.compilation = self.compilation or self.compile()
        with self._opening(self.about) as record:
            result = self._fit()
            record(result)
        if self.average is not None:
            self.average.settle()
        return result

    def _fit(self) -> TrainResult:
        started = time.perf_counter()
        ending = telling_callbacks(self.callbacks)
        data, ahead = closing(self.data), closing(self._chunks)
        with self._interruption as interruption, data, ahead, ending as end, self._profiler:
            try:
                try:
                    self._begin(interruption)
                    self._run_epochs(interruption)
                except Interrupted:
                    self.reporter.message("The run was interrupted before its first batch.")
                end.result = self._finish(started)
            finally:
                end.epochs = self.epoch
                self._keeper.close()
        return end.result

    def _begin(self, interruption: Interruption) -> None:
        if self.compilation is None:
            with interruption.breaking():
                self.compilation = self.compile()
        self.loop.compiled = self.compilation.mode
        self.chunk = self._chunks.chunk = 1 if self.per_batch else self.saver.chunk(self.compilation.chunk)
        self.reporter.plan(describe_run(self, self.compilation))
        if self.warm_start is not None:
            self.reporter.warm_start(self.warm_start)
        self._tell(self.data.left_out)
        # What was left out while measuring is met again in the first epoch.
        self.data.skipped()

    def _run_epochs(self, interruption: Interruption) -> None:
        model = self.graph.model
        callbacks = RunCallbacks(
            self.callbacks, model=model, average=self.average, epochs=self.trainer.epochs, steps=self.batching.steps
        )
        model.stop_training = bool(self.stopped)
        self._profiler.begin(self.batches + 1, self.batching.steps * self.trainer.epochs)
        callbacks.on_train_begin()
        restore_callbacks(self)
        # A run that is killed before its first epoch ends has to go on with the same seed and the same compiled loop.
        self.saver.save(wait=True)
        while not self._must_stop() and self.epoch < self.trainer.epochs:
            self._run_epoch(callbacks)
        if interruption.received:
            # Callbacks may do away with their state, or change the weights, when training ends.
            self.saver.save()
        callbacks.on_train_end(self.history[-1] if self.history else {})

    def _run_epoch(self, callbacks: RunCallbacks) -> None:
        started = time.perf_counter()
        self.reporter.epoch_started(self.epoch + 1, self.trainer.epochs, self.batching.steps)
        if self.step == 0:
            self.metrics.reset()
            callbacks.on_epoch_begin(self.epoch)
        self._run_chunks(callbacks)
        if self._interruption.received and self.step < self.batching.steps:
            return
        before = self.monitor.state()
        try:
            self._validate_and_end_epoch(callbacks, started)
        except Interrupted:
            # The epoch's batches are done, its end is not: a resumed run begins with the validation.
            self.monitor.restore(before)
            self.stopped = ""

    def _validate_and_end_epoch(self, callbacks: RunCallbacks, started: float) -> None:
        logs = self.metrics.result()
        logs["learning_rate"] = float(self.optimizer.learning_rate)
        last = self.epoch + 1 == self.trainer.epochs or self.graph.model.stop_training
        if self.average is not None:
            logs["ema_rate"] = self.average.rate
        self.distribution.unify(self.graph.model.variables)
        with self.averaged():
            if self.validation and ((self.epoch + 1) % self.trainer.val_every_n == 0 or last):
                callbacks.on_test_begin()
                with self._interruption.breaking():
                    results = self.validation.run(batch_hooks=callbacks.test_batches)
                callbacks.on_test_end(results)
                logs |= {f"val_{name}": value for name, value in results.items()}
            lav: dict[str, dict[str, float]] = {}
            notes: list[str] = []
            previous = self.monitor.best
            # Weights that are no numbers can still score by chance: such an epoch is never the best.
            is_best = math.isfinite(logs["loss"]) and self.monitor.update(self.epoch + 1, logs)
            if reason := stop_reason(self.trainer.early_stopping, self.monitor, self.epoch + 1, logs):
                self.stopped = f"Early stopping: {reason}"
                self.graph.model.stop_training = True
            last = last or bool(reason)
            if self.lav and is_due(self.epoch, self.trainer.lav_every_n, last, first=self.trainer.lav_min_epoch):
                with self._interruption.breaking():
                    found = run_lists(self.scenario, self.lav, is_chief=self.workers.is_chief)
                lav = found.results
                notes += found.texts
                for part, records in found.records.items():
                    self._keeper.log_summaries(self.epoch + 1, records, part=part)
                logs |= {f"{part}_{name}": value for part, values in lav.items() for name, value in values.items()}
            if self._summaries is not None and is_due(self.epoch, self.trainer.summaries_every_n, last):
                self._keeper.log_summaries(self.epoch + 1, self._summaries.make())
        self._end_epoch(callbacks, logs, list(lav), is_best=is_best)
        if self.stopped:
            notes.insert(0, f"{self.stopped}.")
        self.reporter.epoch_ended(
            EpochReport(
                epoch=self.epoch,
                epochs=self.trainer.epochs,
                seconds=time.perf_counter() - started,
                logs=logs,
                monitor=self.monitor.name,
                previous_best=previous,
                is_best=is_best,
                lav=tuple(lav),
            )
        )
        if not last and (asked := self.reporter.stop_reason()):
            # Not kept in `stopped`, which is saved: whoever watches ends this process, not the run.
            self.graph.model.stop_training = True
            notes.append(asked)
        self._tell([*notes, *self.data.skipped()])

    def _tell(self, texts: list[str]) -> None:
        for text in texts:
            self.reporter.message(text)

    def averaged(self) -> AbstractContextManager[None]:
        """A context in which the model has the averaged weights, if there are any."""
        return nullcontext() if self.average is None else self.average.applied()

    def _run_chunks(self, callbacks: RunCallbacks) -> None:
        for block, logs in self._chunks.epoch(self.epoch, self.step, callbacks.on_train_batch_begin):
            self.step = block.first + block.steps
            callbacks.on_train_batch_end(self.step - 1, logs)
            self.reporter.progress(self.step, block.steps * block.batch_size, logs)
            self._keeper.check()
            if self._must_stop():
                break
            self.saver.save_if_due()

    def _must_stop(self) -> bool:
        """Whether a callback, early stopping or a signal ends the run; the same on all workers."""
        model = self.graph.model
        model.stop_training = self._interruption.agree(self.workers, stop=bool(model.stop_training))
        return bool(model.stop_training or self._interruption.received)

    def _end_epoch(self, callbacks: RunCallbacks, logs: dict[str, float], lav: list[str], *, is_best: bool) -> None:
        if is_best and self.trainer.export_best:
            # The weights that were scored: a callback may change them.
            self.saver.write_best()
        callbacks.on_epoch_end(self.epoch, dict(logs))
        self.history.append(logs)
        self._keeper.log(self.epoch + 1, logs, lav)
        self.epoch += 1
        self.step = 0
        if self._must_stop() and self.graph.model.stop_training:
            self.stopped = self.stopped or "A callback stopped the run"
        self.saver.save()

    @property
    def batches(self) -> int:
        """Batches of the run that are done."""
        return self.epoch * self.batching.steps + self.step

    @property
    def place(self) -> tuple[int, int, int]:
        """Epochs, batches of the epoch, and optimizer updates that are done."""
        return self.epoch, self.step, int(self.optimizer.iterations.numpy())

    def _finish(self, started: float) -> TrainResult:
        received = self._interruption.received
        if self.trainer.export_final and not received and not self.saver.diverged():
            with self.averaged():
                self._keeper.write_model("export", {"epoch": self.epoch}, compare=True)
        self._keeper.close()
        self._profiler.end(self.batches)
        result = TrainResult(
            status="interrupted" if received else "finished" if self.epoch == self.trainer.epochs else "stopped",
            output_dir=self.output_dir or Path(),
            epochs=self.epoch,
            history=self.history,
            monitor=self.monitor.name,
            best=self.monitor.best,
            best_epoch=self.monitor.best_epoch,
            seconds=time.perf_counter() - started,
            saved=self._keeper.saved(),
            signal=received,
            profiled=self._profiler.traced,
            memory=peak_memory(self.data.workers.processes()),
            model=self.graph.model,
        )
        self.reporter.summary(result)
        if not received:
            self._keeper.check_formats()
        return result
