"""The trainer: sets up a run, drives the compiled loop and the callbacks, validates, and saves."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import closing
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
from aipcore.scenario.params import ScenarioParams
from aipcore.scenario.preprocessing import Preprocessing
from aipcore.scenario.scenario import Scenario
from aipcore.start_tensorflow import reset_keras
from aipcore.training.callbacks.callback_list import make_callbacks, telling_callbacks, wants_batches
from aipcore.training.callbacks.context import RunContext, RunEvents
from aipcore.training.callbacks.model_probe import RunProbe
from aipcore.training.checkpoint.format import Checkpoint, read_checkpoint
from aipcore.training.checkpoint.manager import CheckpointManager, make_writer
from aipcore.training.checkpoint.run_writer import RunWriter
from aipcore.training.components import about_run, make_parts
from aipcore.training.data import closing_data, prepare_data
from aipcore.training.engine.chunks import ChunkLoop
from aipcore.training.engine.compilation import Compilation, choose_compilation
from aipcore.training.fingerprint import source_fingerprint
from aipcore.training.fit_loop import FitLoop
from aipcore.training.memory import peak_memory
from aipcore.training.params import POLICIES, TrainerParams
from aipcore.training.plan import describe_run
from aipcore.training.preprocessing import require_recorded
from aipcore.training.reporter import Reporter, TrainResult, nothing_to_train
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

    Create it with `from_scenario`. The constructor builds everything that the run depends on; `fit` trains. Nothing is
    written before `fit`, and nothing at all without an `output_dir`.

    Args:
        scenario: the scenario, constructed with its parameters.
        params: the run's parameters: the scenario's and `trainer`.
        name: the scenario's name, for titles.
        parts: optimizer, schedule, callbacks and exporters.
        output_dir: an existing folder used only by this run, or None to write nothing.
        about: values to record beside checkpoints and models: resolved parameters, plugin versions.
        reporter: receives the progress.
        processes: this process and its peers, of which only the chief has an `output_dir`.
        opening: prepares the folder when training begins; by default it is already prepared.
        owns_process: True if a run that ignores a signal may end the process.
        resume: the command that resumes this run.
        preprocessing: the preprocessing of a resumed run; by default it is adapted to the training data.

    Attributes:
        scenario: the scenario.
        params: the parameters.
        output_dir: the run folder, or None.
        about: the values recorded beside checkpoints and models.
        processes: the processes of the run.
        data: the data of the run.
        engine: the model and its compiled steps.
        callbacks: callbacks by name.
        state: everything in a checkpoint.

    Raises:
        DataError, ScenarioError: the data or the scenario cannot be used.
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
        """Build the trainer of a run, with data, model and optimizer, for inspection before `fit` trains it.

        Args:
            scenario: see `train`.
            params: see `train`.
            output_dir: the run folder; None: nothing is written, unless `params` set one.
            reporter: see `train`.
            quiet: see `train`.

        Raises:
            AipError: a parameter, the scenario or the folder cannot be used.
        """
        request = request_of(scenario, params, output_dir)
        resolved = request.checked()
        run = resolved.value.trainer
        start_tensorflow(run.device)
        folder = run.output_dir and choose_output_dir(run.output_dir, request.scenario.name)
        shown = open_output(Output(reporter=reporter, quiet=quiet), folder=folder)
        opening = logged_folder(shown, folder, planned_copies(resolved.value)[1])
        return cls.from_request(request, resolved, output_dir=folder, reporter=shown.reporter, opening=opening)

    @classmethod
    def from_request(
        cls, request: Request, resolved: Resolved[Any] | None = None, *, output_dir: Path | None, **more: Any
    ) -> Trainer:
        """Build the trainer for a request.

        Args:
            request: the scenario and its parameters.
            resolved: the checked parameters; by default only resolved.
            output_dir: see the constructor.
            more: other arguments of the constructor, instead of those derived from the request.
        """
        resolved = resolved or request.resolved()
        params = resolved.value
        about = about_run(request.scenario, resolved, request.plugins)
        resume = "" if output_dir is None else request.resume_command(resolved, output_dir)
        values = {"name": request.scenario.name, "about": about, "resume": resume, **more}
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
        processes: ProcessGroup | None = None,
        opening: Opening | None = None,
        owns_process: bool = False,
        resume: str = "",
        preprocessing: Preprocessing | None = None,
    ) -> None:
        self._opening = opening
        self._result: TrainResult | None = None
        check_scenario(type(scenario))
        self.scenario = scenario
        self.params = params
        self._name = name
        self.output_dir = output_dir
        self.about = dict(about or {})
        self._reporter = reporter or Reporter()
        self._params: TrainerParams = params.trainer  # type: ignore[attr-defined]
        self.processes = processes or alone(self._params.device.strategy)
        seed = agreed_seed(self.processes, self._params.random_seed)
        reset_keras(seed, POLICIES[self._params.precision])
        if self._params.deterministic:
            make_deterministic()
        self.data = prepare_data(scenario, params, self._params, seed, self.processes, preprocessing)
        require_same_run(self.processes, self.about, self.data.batching.samples)
        distribution = make_distribution(self._params.device, self.data.batching.batch_size, self.processes)
        self.data.loader.share = distribution.share
        self.engine = made = prepare_model(scenario, params, self._params, self.data, parts, distribution, seed)
        self.about |= {
            "seed": seed,
            "fingerprint": {"source": source_fingerprint(type(scenario)), "data": self.data.fingerprint},
            **self.data.signatures(made.graph, made.prediction, made.further),
        }
        self._warm_start = made.warm_start
        self.callbacks = make_callbacks(parts.callbacks, self._context(), made.metrics.sets[0].by_name, scenario)
        self._per_batch = [name for name, callback in self.callbacks.items() if wants_batches(callback)]
        self.state = RunState(
            made.variables(),
            made.monitor,
            self.callbacks,
            self.data.batching,
            steps=self.data.steps,
            seed=seed,
            stream=self.data.stream,
            processes=self.processes,
        )
        more: dict[str, Any] = {"samples": self.data.shown, "preprocessing": self.data.preprocessing}
        check = not self._params.skip_sanity_check
        writer = make_writer(made, parts.formats, self.about, output_dir=output_dir, check=check, **more)
        self._run_writer = RunWriter(output_dir, writer, params=self._params.checkpoint, warn=self._reporter.warning)
        self._resume_command = self._run_writer.resume_command(resume)
        grace, say, one = self._params.grace_seconds, self._reporter.message, self.processes.count == 1
        self._interruption = Interruption(say, grace, self._resume_command, alone=one, owns_process=owns_process)
        self._checkpoints = CheckpointManager(
            self.state,
            self._run_writer,
            self.processes,
            params=self._params,
            about=self.about,
            running_loss=lambda: float(self.engine.metrics.result()["loss"]),
            averaged=made.averaged,
            warn=self._reporter.warning,
        )
        # Traced batches run in separate calls, which all workers must make.
        traced = self._params.profile and (output_dir is not None or not self.processes.is_chief)
        traces = self.processes.folder(output_dir) / "tensorboard" if traced else None
        self._profiler = BatchProfiler(traces, self._params.profile_steps, self.data.batching.steps, self._reporter)
        self._look = None if self._params.skip_sanity_check else first_steps_check(self.engine.optimizers)
        self._chunks = ChunkLoop(
            made,
            self._profiler,
            self.data.batching,
            steps=self.data.steps,
            # Skipped samples are counted when they are read: those of the next epoch would count in this one.
            across=params.data.on_error == "raise",
            check=self._look,
        )
        self._loop = FitLoop(
            scenario=scenario,
            params=self._params,
            data=self.data,
            engine=made,
            state=self.state,
            callbacks=self.callbacks,
            processes=self.processes,
            reporter=self._reporter,
            run_writer=self._run_writer,
            checkpoints=self._checkpoints,
            chunks=self._chunks,
            summaries=None if output_dir is None else make_summaries(scenario, self._params, made),
            interruption=self._interruption,
            profiler=self._profiler,
        )

    @author_errors()
    @closing_data
    def restore(self, checkpoint: Path | Checkpoint, *, recompile: bool = False, restart: bool = False) -> None:
        """Continue from a complete checkpoint, which is not written again; see `RunState.load`.

        Args:
            checkpoint: its folder, or its content.
            recompile: if True, choose the compilation of the loop again.
            restart: if True, continue training even if the run had stopped before its last epoch.

        Raises:
            TrainingError: it is damaged, or from another model, or was made with other preprocessing.
        """
        found = read_checkpoint(checkpoint) if isinstance(checkpoint, Path) else checkpoint
        require_recorded(found.about, self.data.preprocessing)
        self.state.load(found, recompile=recompile)
        if restart:
            self.state.stopped = ""
        self._warm_start, self._result = None, None
        self._checkpoints.resumed()

    @author_errors()
    def compile(self) -> Compilation:
        """Measure the fastest compilation on the chief, unless measuring is off; the state of the run is unchanged.

        Raises:
            TrainingError: the model cannot be compiled as requested.
        """
        self.engine.phases.enter_longest(self.state.position, self.data.batching.steps)
        chosen = choose_compilation(
            self.engine.loop,
            self.engine.loader,
            self.state.variables,
            tune=self._params.tune,
            jit_compile=self._params.jit_compile,
            padding_sizes=self._params.padding_sizes,
            eager=self._params.force_eager,
            total_steps=self.state.total_batches,
            look=self._look,
        )
        return Compilation(**self.processes.broadcast("compilation", attrs.asdict(chosen)))

    @author_errors()
    @dtype_policy_kept()
    @closing_data
    def fit(self) -> TrainResult:
        """Train to the last epoch, or until a callback or a signal stops the run, and save.

        A second call trains nothing and returns the first result, unless `restore` was called in between.

        Raises:
            TrainingError: nothing can be saved, or the model cannot be compiled as requested.
        """
        if self._result is not None:
            self._reporter.warning(nothing_to_train(self._result))
            return self._result
        keras.config.set_dtype_policy(POLICIES[self._params.precision])
        if self._opening is None:
            return self._fit()
        # Compile first, so that a failure leaves no folder behind.
        self.state.compilation = self.state.compilation or self.compile()
        with self._opening(self.about) as record:
            result = self._fit()
            record(result)
        if self.engine.average is not None:
            self.engine.average.settle()
        return result

    def _fit(self) -> TrainResult:
        started = time.perf_counter()
        data, ahead = closing(self.data), closing(self._chunks)
        with self._interruption as interruption, data, ahead, telling_callbacks(self.callbacks) as end, self._profiler:
            try:
                try:
                    self._begin(interruption)
                    self._loop.run()
                except Interrupted:
                    self._reporter.message("Interrupted before the first step.")
                end.result = self._finish(started)
            finally:
                end.epochs = self.state.epoch
                self._run_writer.close()
        self._result = end.result
        return end.result

    def _begin(self, interruption: Interruption) -> None:
        if self.state.compilation is None:
            with interruption.breaking():
                self.state.compilation = self.compile()
        self._chunks.use(self.state.compilation, self._steps_per_call(self.state.compilation))
        self.about |= self._run_writer.write_preprocessing(self.data.preprocessing)
        self._reporter.plan(self.plan())
        if self._warm_start is not None:
            self._reporter.warm_start(self._warm_start)
        for text in self.data.left_out:
            self._reporter.message(text)
        # Samples skipped during the measurement are skipped again in the first epoch.
        self.data.skipped()

    @property
    def model(self) -> Any:
        """The Keras model."""
        return self.engine.graph.model

    def plan(self) -> list[tuple[str, str]]:
        """Return the plan of the run: pairs of a heading and its text. The run must be compiled."""
        compiled = self.state.compilation
        assert compiled is not None
        more: dict[str, Any] = {"name": self._name, "seed": self.state.seed, "output_dir": self.output_dir}
        more |= {"steps_per_call": self._steps_per_call(compiled), "per_batch": self._per_batch}
        more["warm_start"] = self._warm_start
        return describe_run(type(self.scenario), self.params, self.data, self.engine, compiled, **more)

    def _steps_per_call(self, compilation: Compilation) -> int:
        return 1 if self._per_batch else self._checkpoints.chunk(compilation.chunk)

    def _context(self) -> RunContext:
        """Return the run as callbacks see it."""
        return RunContext(
            output_dir=self.processes.folder(self.output_dir),
            scenario=self._name,
            monitor=(self.engine.monitor.mode, self.engine.monitor.name),
            horizon=self.data.horizon,
            learning_rate=self.engine.learning_rate,
            params=self.about.get("params", {}),
            is_chief=self.processes.is_chief,
            updates=lambda: int(self.engine.optimizer.iterations.numpy()),
            events=RunEvents(lambda: self._run_writer),
            probe=RunProbe(self.scenario, self.engine.loop, self.data, eager=self._params.force_eager),
        )

    def _finish(self, started: float) -> TrainResult:
        received = self._interruption.received
        if self._params.export_final and not received and not self._checkpoints.diverged():
            with self.engine.averaged():
                self._run_writer.write_model("export", {"epoch": self.state.epoch}, compare=True)
        self._run_writer.refuse_moved()
        self._run_writer.close()
        self._profiler.end(self.state.batches)
        result = TrainResult(
            status="interrupted" if received else "finished" if self.state.epoch >= self.state.epochs else "stopped",
            **self.state.outcome(),
            output_dir=self.output_dir,
            seconds=time.perf_counter() - started,
            saved=self._run_writer.saved(),
            signal=received,
            resume=self._resume_command() if received else "",
            profiled=self._profiler.traced,
            memory=peak_memory(self.data.workers.processes()),
            model=self.model,
        )
        self._reporter.summary(result)
        if not received:
            self._run_writer.check_formats()
        return result
