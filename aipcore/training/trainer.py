"""The trainer: sets a run up, drives the compiled loop and the callbacks, validates, and saves."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import keras

import aipcore
from aipcore.data.feed import Block, prefetch
from aipcore.scenario.params import ScenarioParams
from aipcore.scenario.scenario import Scenario
from aipcore.training.checkpoint import read_checkpoint
from aipcore.training.context import RunContext
from aipcore.training.devices import make_deterministic
from aipcore.training.early_stopping import stop_reason
from aipcore.training.interrupt import Interrupted, Interruption
from aipcore.training.keeper import Keeper
from aipcore.training.params import TrainerParams
from aipcore.training.plan import (
    describe_average,
    describe_compilation,
    describe_data,
    describe_device,
    describe_frozen,
    describe_model,
    describe_optimizer,
    describe_output,
)
from aipcore.training.prepare import Parts, prepare_data, prepare_model
from aipcore.training.reporter import EpochReport, Reporter, TrainResult
from aipcore.training.resume import restore, restore_callbacks, snapshot
from aipcore.training.saving import SavePolicy
from aipcore.training.servable import ModelWriter
from aipcore.training.state import VariableState
from aipcore.training.tuning import Compilation, choose_compilation

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
"""Keras' policy for each `trainer.precision`: layers compute in it and keep their weights in float32."""


class Trainer:
    """One run of one scenario.

    Everything that the run depends on is made in the constructor; `run` computes. Nothing is written before `run`,
    and nothing at all if there is no `output_dir`.

    Args:
        scenario: the scenario, made with its parameters.
        params: the run's parameters: the scenario's and `trainer`.
        name: the scenario's name, for titles.
        parts: optimizer, schedule, callbacks and exporters.
        output_dir: an existing folder of this run alone, or None to write nothing.
        about: what to record beside checkpoints and models: resolved parameters, plugin versions.
        reporter: hears of the progress.

    Raises:
        DataError, ScenarioError: the data or the scenario cannot be used, and why.
    """

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
    ) -> None:
        self.scenario = scenario
        self.params = params
        self.name = name
        self.output_dir = output_dir
        self.about = dict(about or {})
        self.reporter = reporter or Reporter()
        self.trainer: TrainerParams = params.trainer  # type: ignore[attr-defined]
        given = self.trainer.random_seed
        self.seed = secrets.randbelow(2**31) if given is None else given
        # Names of variables must not depend on what else was built in this process: checkpoints go by them.
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(self.seed % 2**32)
        if self.trainer.deterministic:
            make_deterministic()
        keras.config.set_dtype_policy(POLICIES[self.trainer.precision])
        self.data = prepare_data(scenario, params, self.trainer, self.seed)
        self.batching = self.data.batching
        made = prepare_model(scenario, params, self.trainer, self.data, parts)
        self.graph = made.graph
        self.learning_rate = made.learning_rate
        self.optimizer = made.optimizer
        self.metrics = made.metrics
        self.loop = made.loop
        self.validation = made.validation
        self.lav = made.lav
        self.monitor = made.monitor
        self.average = made.average
        self.frozen = made.frozen
        self.epoch = 0
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.stopped = ""
        self.kept_best: float | None = None
        self.pending_states: dict[str, tuple[Any, Any]] = {}
        self.compilation: Compilation | None = None
        self.callbacks = self._make_callbacks(parts)
        self.per_batch = [name for name, callback in self.callbacks.items() if _wants_batches(callback)]
        self.state = VariableState(
            {
                "model": self.graph.model.variables,
                "optimizer": self.optimizer.variables,
                "learning_rate": [self.learning_rate.scale],
                "metrics": self.metrics.variables,
                "loop": self.loop.variables,
                "ema": [] if self.average is None else self.average.shadows,
            }
        )
        self._interruption = Interruption(self.reporter.message, self.trainer.grace_seconds)
        self._policy = SavePolicy(self.trainer.checkpoint)
        self._saved_at: tuple[int, int] | None = None
        writer = ModelWriter(self.graph, parts.exporters, {"aip": aipcore.__version__, **self.about})
        if output_dir is not None and not self.trainer.skip_sanity_check:
            writer.check()
        self._keeper = Keeper(output_dir, writer, params=self.trainer.checkpoint, warn=self.reporter.warning)

    def _make_callbacks(self, parts: Parts) -> dict[str, Any]:
        context = RunContext(
            output_dir=self.output_dir or Path(),
            scenario=self.name,
            monitor=(self.monitor.mode, self.monitor.name),
            horizon=self.data.horizon,
            learning_rate=self.learning_rate,
        )
        return {name: build(context) for name, build in parts.callbacks.items()}

    def restore(self, checkpoint: Path, *, recompile: bool = False) -> None:
        """Goes on from a complete checkpoint; see `aipcore.training.resume.restore`.

        Raises:
            TrainingError: it is damaged, or of another model.
        """
        restore(self, read_checkpoint(checkpoint), recompile=recompile)
        self._saved_at = self.epoch, self.step

    def compile(self) -> Compilation:
        """Measures how this run is best compiled; leaves its state as it was.

        Raises:
            TrainingError: the model cannot be compiled as asked.
        """
        return choose_compilation(
            self.loop,
            self.data.feed,
            self.state,
            jit_compile=self.trainer.jit_compile,
            eager=self.trainer.force_eager,
            total_steps=self.batching.steps * self.trainer.epochs,
        )

    def run(self) -> TrainResult:
        """Trains to the end, to a callback's stop, or to a signal, and saves.

        Raises:
            TrainingError: nothing can be saved, or the model cannot be compiled as asked.
        """
        started = time.perf_counter()
        with self._interruption as interruption:
            try:
                try:
                    self._begin(interruption)
                    self._run_epochs(interruption)
                except Interrupted:
                    self.reporter.message("The run was interrupted before its first batch.")
                return self._finish(started)
            finally:
                self._keeper.close()

    def _begin(self, interruption: Interruption) -> None:
        if self.compilation is None:
            with interruption.breaking():
                self.compilation = self.compile()
        self.loop.compiled = self.compilation.mode
        self.chunk = 1 if self.per_batch else self._policy.chunk(self.compilation.chunk)
        self.reporter.plan(self._plan(self.compilation))

    def _run_epochs(self, interruption: Interruption) -> None:
        model = self.graph.model
        callbacks = keras.callbacks.CallbackList(
            list(self.callbacks.values()), add_history=True, model=model,
            epochs=self.trainer.epochs, steps=self.batching.steps, verbose=0,
        )  # fmt: skip
        model.stop_training = bool(self.stopped)
        callbacks.on_train_begin()
        restore_callbacks(self)
        # A run that is killed before its first epoch ends has to go on with the same seed and the same compiled loop.
        self._save_progress(wait=True)
        while self.epoch < self.trainer.epochs and not model.stop_training and not interruption.received:
            self._run_epoch(callbacks)
        if interruption.received:
            # Callbacks may do away with their state, or change the weights, when training ends.
            self._save_progress()
        callbacks.on_train_end(self.history[-1] if self.history else {})

    def _run_epoch(self, callbacks: Any) -> None:
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

    def _validate_and_end_epoch(self, callbacks: Any, started: float) -> None:
        logs = self.metrics.result()
        logs["learning_rate"] = float(self.optimizer.learning_rate)
        last = self.epoch + 1 == self.trainer.epochs or self.graph.model.stop_training
        if self.average is not None:
            logs["ema_rate"] = self.average.rate
        with self._averaged():
            if self.validation and ((self.epoch + 1) % self.trainer.val_every_n == 0 or last):
                callbacks.on_test_begin()
                with self._interruption.breaking():
                    results = self.validation.run()
                callbacks.on_test_end(results)
                logs |= {f"val_{name}": value for name, value in results.items()}
            lav: dict[str, dict[str, float]] = {}
            previous = self.monitor.best
            # Weights that are no numbers can still score by chance: such an epoch is never the best.
            is_best = math.isfinite(logs["loss"]) and self.monitor.update(self.epoch + 1, logs)
            if reason := stop_reason(self.trainer.early_stopping, self.monitor, self.epoch + 1, logs):
                self.stopped = f"Early stopping: {reason}"
                self.graph.model.stop_training = True
            if self._lav_is_due(last or bool(reason)):
                with self._interruption.breaking():
                    lav = self._run_lav()
                logs |= {f"{part}_{name}": value for part, values in lav.items() for name, value in values.items()}
        self._end_epoch(callbacks, logs, list(lav), is_best=is_best)
        self.reporter.epoch_ended(
            EpochReport(
                epoch=self.epoch,
                epochs=self.trainer.epochs,
                seconds=time.perf_counter() - started,
                logs=logs,
                monitor=self.monitor.name,
                previous_best=previous,
                is_best=is_best,
            )
        )

    def _averaged(self) -> AbstractContextManager[None]:
        return nullcontext() if self.average is None else self.average.applied()

    def _run_chunks(self, callbacks: Any) -> None:
        blocks = self.data.feed.blocks(self.epoch, chunk=self.chunk, first=self.step, pad=self.loop.compiled == "xla")
        for block, prepared in prefetch(blocks, self._prepared):
            callbacks.on_train_batch_begin(block.first)
            self.loop.run(prepared, full=block.batch_size == self.batching.batch_size)
            self.step = block.first + block.steps
            logs = self.metrics.result()
            callbacks.on_train_batch_end(self.step - 1, logs)
            self.reporter.progress(self.step, block.steps * block.batch_size, logs)
            self._keeper.check()
            if self._interruption.received or self.graph.model.stop_training:
                break
            # While one checkpoint is being written, the next waits for the end of a later chunk.
            if self._policy.due(self._total_steps()) and not self._keeper.busy:
                self._save_progress()

    def _prepared(self, block: Block) -> tuple[Block, Any]:
        group = self.trainer.accumulate_steps
        numbers = range(block.first + 1, block.first + block.steps + 1)
        return block, self.loop.prepare(block, [n % group == 0 or n == self.batching.steps for n in numbers])

    def _lav_is_due(self, last: bool) -> bool:
        every = self.trainer.lav_every_n
        if not every or not self.lav:
            return False
        due = (self.epoch + 1) % every == 0 and self.epoch + 1 >= self.trainer.lav_min_epoch
        return due or last or self.epoch == 0

    def _run_lav(self) -> dict[str, dict[str, float]]:
        """The results of each list, under `lav` for the validation data and `lav_NAME` for a list of its own."""
        results = {}
        for name, evaluation in self.lav.items():
            evaluator = self.scenario.evaluator()
            results[f"lav_{name}" if name else "lav"] = evaluation.run(evaluator)
            if evaluator is not None and (text := evaluator.report()):
                self.reporter.message(f"{name}: {text}" if name else text)
        return results

    def _end_epoch(self, callbacks: Any, logs: dict[str, float], lav: list[str], *, is_best: bool) -> None:
        callbacks.on_epoch_end(self.epoch, dict(logs))
        self.history.append(logs)
        self._keeper.log(self.epoch + 1, logs, lav)
        if is_best and self.trainer.export_best:
            self._write_best()
        self.epoch += 1
        self.step = 0
        if self.graph.model.stop_training:
            self.stopped = self.stopped or "A callback stopped the run"
            self.reporter.message(f"{self.stopped}.")
        self._save_progress()

    def _write_best(self) -> None:
        monitor = self.monitor
        assert monitor.best is not None
        if self.kept_best is not None and monitor.beats(self.kept_best, monitor.best):
            # The model in `best` is of a later epoch than the checkpoint that this run went on from.
            return
        self.kept_best = None
        note = {"mode": monitor.mode, "name": monitor.name, "value": monitor.best, "epoch": monitor.best_epoch}
        with self._averaged():
            self._keeper.write_model("best", {"monitor": note})

    def _plan(self, compilation: Compilation) -> list[tuple[str, str]]:
        return [
            ("scenario", self.name),
            ("data", describe_data(self.data.train, self.data.val, self.batching)),
            ("model", describe_model(self.graph.model)),
            *describe_frozen(self.frozen),
            ("optimizer", describe_optimizer(self.trainer, self.data.horizon)),
            *describe_average(self.average),
            ("best", f"the epoch with the {'least' if self.monitor.mode == 'min' else 'greatest'} {self.monitor.name}"),
            ("device", describe_device(self.trainer.precision)),
            ("loop", describe_compilation(compilation, self.per_batch)),
            ("seed", str(self.seed)),
            ("output", describe_output(self.output_dir)),
        ]

    def _total_steps(self) -> int:
        return self.epoch * self.batching.steps + self.step

    def _save_progress(self, *, wait: bool = False) -> None:
        here = self.epoch, self.step
        if not self.trainer.write_checkpoints or self.compilation is None or self._saved_at == here:
            return
        if self._diverged():
            self.reporter.message("The loss is not finite: no checkpoint is written, the last good one stays.")
            return
        if self._keeper.write_checkpoint(self._total_steps(), lambda: snapshot(self), wait=wait):
            self._saved_at = here
        # After a failure, too, the next one is tried when the next is due.
        self._policy.saved(self._total_steps())

    def _diverged(self) -> bool:
        if self.step:
            return not math.isfinite(self.metrics.result()["loss"])
        return bool(self.history) and not math.isfinite(self.history[-1]["loss"])

    def _finish(self, started: float) -> TrainResult:
        received = self._interruption.received
        if self.trainer.export_final and not received and not self._diverged():
            with self._averaged():
                self._keeper.write_model("export", {"epoch": self.epoch})
        self._keeper.close()
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
        )
        self.reporter.summary(result)
        return result


def _wants_batches(callback: Any) -> bool:
    """Whether a callback must hear of every single batch: it overrides a batch hook and does not accept chunks."""
    hooks = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    overrides = any(getattr(type(callback), hook) is not getattr(keras.callbacks.Callback, hook) for hook in hooks)
    return overrides and not getattr(callback, "accepts_chunks", False)
