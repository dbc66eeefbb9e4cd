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

from aipcore.distributed.devices import make_deterministic
from aipcore.distributed.process_group import ProcessGroup
from aipcore.distributed.strategy import make_distribution
from aipcore.errors import author_errors
from aipcore.params import Resolved
from aipcore.params.resources import planned_copies
from aipcore.scenario.author_names import check_scenario
from aipcore.scenario.model import signatures_of
from aipcore.scenario.params import ScenarioParams
from aipcore.scenario.scenario import Scenario
from aipcore.training.callbacks.callback_list import RunCallbacks, make_callbacks, telling_callbacks, wants_batches
from aipcore.training.callbacks.context import RunContext, RunEvents
from aipcore.training.callbacks.model_probe import RunProbe
from aipcore.training.checkpoint.format import Checkpoint, read_checkpoint
from aipcore.training.checkpoint.manager import Keeper
from aipcore.training.checkpoint.saver import RunSaver, make_writer
from aipcore.training.components import about_run, make_parts
from aipcore.training.data import closing_data, prepare_data
from aipcore.training.engine.chunks import ChunkLoop
from aipcore.training.engine.compilation import Compilation, choose_compilation
from aipcore.training.engine.learning_rate import is_due
from aipcore.training.fingerprint import source_fingerprint
from aipcore.training.lav import run_lists
from aipcore.training.memory import peak_memory
from aipcore.training.monitor import stop_reason
from aipcore.training.params import POLICIES, TrainerParams
from aipcore.training.plan import describe_run
from aipcore.training.reporter import EpochReport, Reporter, TrainResult
from aipcore.training.request import AnyScenario, Request, request_of
from aipcore.training.run_folder import choose_output_dir
from aipcore.training.run_state import RunState
from aipcore.training.sanity import first_steps_check
from aipcore.training.session import Opening, Output, logged_folder, open_output, start_tensorflow
from aipcore.training.setup import RunComponents, agreed_seed, alone, dtype_policy_kept, prepare_model, require_same_run
from aipcore.training.signals import Interrupted, Interruption
from aipcore.training.tensorboard.profiler import BatchProfiler
from aipcore.training.tensorboard.summaries import make_summaries


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
        parts: RunComponents,
        output_dir: Path | None,
        about: Mapping[str, Any] | None = None,
        reporter: Reporter | None = None,
        workers: ProcessGroup | None = None,
        opening: Opening | None = None,
        owns_process: bool = False,
    ) -> None:
        self._opening = opening
        check_scenario(type(scenario))
        self.scenario = scenario
        self.params = params
        self._name = name
        self.output_dir = output_dir
        self.about = dict(about or {})
        self._reporter = reporter or Reporter()
        self._params: TrainerParams = params.trainer  # type: ignore[attr-defined]
        self.workers = workers or alone(self._params.device.strategy)
        seed = agreed_seed(self.workers, self._params.random_seed)
        # Names of variables must not depend on what else was built in this process: checkpoints go by them.
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(seed % 2**32)
        if self._params.deterministic:
            make_deterministic()
        keras.config.set_dtype_policy(POLICIES[self._params.precision])
        self.data = prepare_data(scenario, params, self._params, seed)
        require_same_run(self.workers, self.about, self.data.batching.samples)
        distribution = make_distribution(self._params.device.strategy, self.data.batching.batch_size, self.workers)
        self.data.feed.share = distribution.share
        self.engine = made = prepare_model(scenario, params, self._params, self.data, parts, distribution)
        self.about |= {
            "seed": seed,
            "fingerprint": {"source": source_fingerprint(type(scenario)), "data": self.data.fingerprint},
            **signatures_of(made.graph, made.prediction, made.further),
        }
        self._warm_start = made.warm_start
        self.callbacks = make_callbacks(parts.callbacks, self._context(), made.metrics.sets[0].by_name)
        self._per_batch = [name for name, callback in self.callbacks.items() if wants_batches(callback)]
        self.state = RunState(
            made.variables(),
            made.monitor,
            self.callbacks,
            self.data.batching,
            accumulate_steps=self._params.accumulate_steps,
            seed=seed,
        )
        alone_here, grace = self.workers.count == 1, self._params.grace_seconds
        self._interruption = Interruption(self._reporter.message, grace, alone=alone_here, owns_process=owns_process)
        self._keeper = Keeper(
            output_dir,
            make_writer(
                made,
                parts.formats,
                self.about,
                output_dir=output_dir,
                samples=self.data.val or self.data.train,
                check=not self._params.skip_sanity_check,
            ),
            params=self._params.checkpoint,
            warn=self._reporter.warning,
        )
        self._saver = RunSaver(
            self.state,
            self._keeper,
            self.workers,
            params=self._params,
            about=self.about,
            running_loss=lambda: float(self.engine.metrics.result()["loss"]),
            averaged=self._averaged,
            warn=self._reporter.warning,
        )
        self._summaries = None if output_dir is None else make_summaries(scenario, self._params, made)
        # What is traced runs in calls of its own, which all workers must make.
        traced = self._params.profile and (output_dir is not None or not self.workers.is_chief)
        traces = self.workers.folder(output_dir) / "tensorboard" if traced else None
        self._profiler = BatchProfiler(traces, self._params.profile_steps, self.data.batching.steps, self._reporter)
        self._look = None if self._params.skip_sanity_check else first_steps_check(self.engine.optimizer)
        self._chunks = ChunkLoop(
            self.engine.loop,
            self.engine.feed,
            self.engine.metrics,
            self._profiler,
            self.data.batching,
            accumulate_steps=self._params.accumulate_steps,
            epochs=self._params.epochs,
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
        self.state.load(
            read_checkpoint(checkpoint) if isinstance(checkpoint, Path) else checkpoint, recompile=recompile
        )
        if restart:
            self.state.stopped = ""
        self._warm_start = None
        self._saver.resumed()

    @author_errors()
    def compile(self) -> Compilation:
        """Measures how this run is best compiled, by the chief's clock, unless it may not; leaves its state as it was.

        Raises:
            TrainingError: the model cannot be compiled as asked.
        """
        chosen = choose_compilation(
            self.engine.loop,
            self.engine.feed,
            self.state.variables,
            tune=self._params.tune,
            jit_compile=self._params.jit_compile,
            eager=self._params.force_eager,
            total_steps=self.data.batching.steps * self._params.epochs,
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
        keras.config.set_dtype_policy(POLICIES[self._params.precision])
        if self._opening is None:
            return self._fit()
        # What cannot be compiled leaves no folder behind.
        self.state.compilation = self.state.compilation or self.compile()
        with self._opening(self.about) as record:
            result = self._fit()
            record(result)
        if self.engine.average is not None:
            self.engine.average.settle()
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
                    self._reporter.message("The run was interrupted before its first batch.")
                end.result = self._finish(started)
            finally:
                end.epochs = self.state.epoch
                self._keeper.close()
        return end.result

    def _begin(self, interruption: Interruption) -> None:
        if self.state.compilation is None:
            with interruption.breaking():
                self.state.compilation = self.compile()
        self.engine.loop.compiled = self.state.compilation.mode
        self._chunks.chunk = 1 if self._per_batch else self._saver.chunk(self.state.compilation.chunk)
        self._reporter.plan(self.plan())
        if self._warm_start is not None:
            self._reporter.warm_start(self._warm_start)
        self._tell(self.data.left_out)
        # What was left out while measuring is met again in the first epoch.
        self.data.skipped()

    @property
    def model(self) -> Any:
        """The Keras model."""
        return self.engine.graph.model

    def plan(self) -> list[tuple[str, str]]:
        """Return what the run is going to do: pairs of a heading and its text. It must be compiled."""
        assert self.state.compilation is not None
        return describe_run(
            type(self.scenario),
            self.params,
            self.data,
            self.engine,
            self.state.compilation,
            name=self._name,
            seed=self.state.seed,
            output_dir=self.output_dir,
            warm_start=self._warm_start,
            per_batch=self._per_batch,
        )

    def _context(self) -> RunContext:
        """Return the run as callbacks see it."""
        return RunContext(
            output_dir=self.workers.folder(self.output_dir),
            scenario=self._name,
            monitor=(self.engine.monitor.mode, self.engine.monitor.name),
            horizon=self.data.horizon,
            learning_rate=self.engine.learning_rate,
            params=self.about.get("params", {}),
            is_chief=self.workers.is_chief,
            updates=lambda: int(self.engine.optimizer.iterations.numpy()),
            events=RunEvents(lambda: self._keeper),
            probe=RunProbe(
                self.scenario,
                self.engine.loop,
                self.data.train,
                self.data.val,
                batch_size=self.data.batching.batch_size,
                eager=self._params.force_eager,
            ),
        )

    def _run_epochs(self, interruption: Interruption) -> None:
        model = self.model
        callbacks = RunCallbacks(
            self.callbacks,
            model=model,
            average=self.engine.average,
            epochs=self._params.epochs,
            steps=self.data.batching.steps,
        )
        model.stop_training = bool(self.state.stopped)
        self._profiler.begin(self.state.batches + 1, self.data.batching.steps * self._params.epochs)
        callbacks.on_train_begin()
        self.state.load_callbacks()
        # A run that is killed before its first epoch ends has to go on with the same seed and the same compiled loop.
        self._saver.save(wait=True)
        while not self._must_stop() and self.state.epoch < self._params.epochs:
            self._run_epoch(callbacks)
        if interruption.received:
            # Callbacks may do away with their state, or change the weights, when training ends.
            self._saver.save()
        callbacks.on_train_end(self.state.history[-1] if self.state.history else {})

    def _run_epoch(self, callbacks: RunCallbacks) -> None:
        started = time.perf_counter()
        self._reporter.epoch_started(self.state.epoch + 1, self._params.epochs, self.data.batching.steps)
        if self.state.step == 0:
            self.engine.metrics.reset()
            callbacks.on_epoch_begin(self.state.epoch)
        self._run_chunks(callbacks)
        if self._interruption.received and self.state.step < self.data.batching.steps:
            return
        before = self.state.monitor.state()
        try:
            self._validate_and_end_epoch(callbacks, started)
        except Interrupted:
            # The epoch's batches are done, its end is not: a resumed run begins with the validation.
            self.state.monitor.restore(before)
            self.state.stopped = ""

    def _validate_and_end_epoch(self, callbacks: RunCallbacks, started: float) -> None:
        logs = self.engine.metrics.result()
        logs["learning_rate"] = float(self.engine.optimizer.learning_rate)
        last = self.state.epoch + 1 == self._params.epochs or self.model.stop_training
        if self.engine.average is not None:
            logs["ema_rate"] = self.engine.average.rate
        self.engine.distribution.unify(self.model.variables)
        with self._averaged():
            if self.engine.validation and ((self.state.epoch + 1) % self._params.val_every_n == 0 or last):
                callbacks.on_test_begin()
                with self._interruption.breaking():
                    results = self.engine.validation.run(batch_hooks=callbacks.test_batches)
                callbacks.on_test_end(results)
                logs |= {f"val_{name}": value for name, value in results.items()}
            lav: dict[str, dict[str, float]] = {}
            notes: list[str] = []
            previous = self.state.monitor.best
            # Weights that are no numbers can still score by chance: such an epoch is never the best.
            is_best = math.isfinite(logs["loss"]) and self.state.monitor.update(self.state.epoch + 1, logs)
            if reason := stop_reason(self._params.early_stopping, self.state.monitor, self.state.epoch + 1, logs):
                self.state.stopped = f"Early stopping: {reason}"
                self.model.stop_training = True
            last = last or bool(reason)
            if self.engine.lav and is_due(
                self.state.epoch, self._params.lav_every_n, last, first=self._params.lav_min_epoch
            ):
                with self._interruption.breaking():
                    found = run_lists(self.scenario, self.engine.lav, is_chief=self.workers.is_chief)
                lav = found.results
                notes += found.texts
                for part, records in found.records.items():
                    self._keeper.log_summaries(self.state.epoch + 1, records, part=part)
                logs |= {f"{part}_{name}": value for part, values in lav.items() for name, value in values.items()}
            if self._summaries is not None and is_due(self.state.epoch, self._params.summaries_every_n, last):
                self._keeper.log_summaries(self.state.epoch + 1, self._summaries.make())
        self._end_epoch(callbacks, logs, list(lav), is_best=is_best)
        if self.state.stopped:
            notes.insert(0, f"{self.state.stopped}.")
        self._reporter.epoch_ended(
            EpochReport(
                epoch=self.state.epoch,
                epochs=self._params.epochs,
                seconds=time.perf_counter() - started,
                logs=logs,
                monitor=self.state.monitor.name,
                previous_best=previous,
                is_best=is_best,
                lav=tuple(lav),
            )
        )
        if not last and (asked := self._reporter.stop_reason()):
            # Not kept in `stopped`, which is saved: whoever watches ends this process, not the run.
            self.model.stop_training = True
            notes.append(asked)
        self._tell([*notes, *self.data.skipped()])

    def _tell(self, texts: list[str]) -> None:
        for text in texts:
            self._reporter.message(text)

    def _averaged(self) -> AbstractContextManager[None]:
        """A context in which the model has the averaged weights, if there are any."""
        return nullcontext() if self.engine.average is None else self.engine.average.applied()

    def _run_chunks(self, callbacks: RunCallbacks) -> None:
        for block, logs in self._chunks.epoch(self.state.epoch, self.state.step, callbacks.on_train_batch_begin):
            self.state.step = block.first + block.steps
            callbacks.on_train_batch_end(self.state.step - 1, logs)
            self._reporter.progress(self.state.step, block.steps * block.batch_size, logs)
            self._saver.check()
            if self._must_stop():
                break
            self._saver.save_if_due()

    def _must_stop(self) -> bool:
        """Whether a callback, early stopping or a signal ends the run; the same on all workers."""
        model = self.model
        model.stop_training = self._interruption.agree(self.workers, stop=bool(model.stop_training))
        return bool(model.stop_training or self._interruption.received)

    def _end_epoch(self, callbacks: RunCallbacks, logs: dict[str, float], lav: list[str], *, is_best: bool) -> None:
        if is_best and self._params.export_best:
            # The weights that were scored: a callback may change them.
            self._saver.write_best()
        # Callbacks would write their files where the folder was.
        self._keeper.refuse_moved()
        callbacks.on_epoch_end(self.state.epoch, dict(logs))
        self.state.history.append(logs)
        self._keeper.log(self.state.epoch + 1, logs, lav)
        self.state.epoch += 1
        self.state.step = 0
        if self._must_stop() and self.model.stop_training:
            self.state.stopped = self.state.stopped or callbacks.why_stopped
        self._saver.save()

    def _finish(self, started: float) -> TrainResult:
        received = self._interruption.received
        if self._params.export_final and not received and not self._saver.diverged():
            with self._averaged():
                self._keeper.write_model("export", {"epoch": self.state.epoch}, compare=True)
        self._keeper.refuse_moved()
        self._keeper.close()
        self._profiler.end(self.state.batches)
        result = TrainResult(
            status="interrupted" if received else "finished" if self.state.epoch == self._params.epochs else "stopped",
            output_dir=self.output_dir or Path(),
            epochs=self.state.epoch,
            history=self.state.history,
            monitor=self.state.monitor.name,
            best=self.state.monitor.best,
            best_epoch=self.state.monitor.best_epoch,
            seconds=time.perf_counter() - started,
            saved=self._keeper.saved(),
            signal=received,
            profiled=self._profiler.traced,
            memory=peak_memory(self.data.workers.processes()),
            model=self.model,
        )
        self._reporter.summary(result)
        if not received:
            self._keeper.check_formats()
        return result
