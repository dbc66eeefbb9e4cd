"""The sweep: trials one after another, each in its own process."""

from __future__ import annotations

import math
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import optuna
from aip_plugins.commands.sweep.hparams import write_experiment, write_session
from aip_plugins.commands.sweep.results import MONITORED, Row, cell, rows_of, write_results
from aip_plugins.commands.sweep.settings import TABLES_LOCK, TRIAL_LOCK, Settings, is_home, lock_when_free
from aip_plugins.commands.sweep.space import Space, written
from aip_plugins.commands.sweep.study import begun, study_locked, suggest
from aip_plugins.commands.sweep.trial import LOG, Logs, Outcome, Score, Stop, TrialProcess
from optuna.trial import TrialState
from rich.status import Status

from aipcore.console import Console
from aipcore.errors import TrainingError, UsageError
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Layer
from aipcore.training.run_folder import locked

ALIKE = 3
"""The sweep ends if the first trials, this many, all fail for the same reason."""

FOLDER = "aip_folder:"
"""Prefix of the study attributes that hold the sweep's folders, followed by the folder's `home`."""


@attrs.define
class Sweep:
    """A running sweep.

    Attributes:
        settings: the settings of the sweep.
        space: the search space.
        study: the study with its trials.
        folder: the folder of the sweep.
        console: the console for progress.
        quiet: True to print only the result.
        stop: the signal handler.
    """

    settings: Settings
    space: Space
    study: optuna.Study
    folder: Path
    console: Console = attrs.field(kw_only=True)
    quiet: bool = attrs.field(kw_only=True)
    stop: Stop = attrs.field(kw_only=True)

    def run(self, timeout: float | None) -> None:
        """Run trials up to the required number, the timeout, or a signal.

        Raises:
            TrainingError: the first trials all failed for the same reason, or none logs the monitored value.
        """
        started = time.monotonic()
        self.study.set_user_attr(FOLDER + self.settings.home, str(self.folder))
        while self.stop.received is None and (timeout is None or time.monotonic() - started < timeout):
            with ExitStack() as held:
                trial = self._claim(held)
                if trial is None:
                    return
                outcome = self._run_trial(trial)
            if outcome.fatal:
                raise TrainingError(outcome.fatal)
            self._refuse_hopeless()

    def write_tables(self) -> list[Row]:
        """Write the tables of all folders on this host that share the study.

        The tables of a folder are read and written under one lock. They are therefore complete even if the process of
        another folder ends last.

        Returns:
            all trials, the best first.
        """
        for name, path in self.study.user_attrs.items():
            home = name.removeprefix(FOLDER)
            if home not in (name, self.settings.home) and is_home(Path(path), home):
                try:
                    self._write_tables_of(Path(path))
                except (OSError, UsageError) as error:
                    self._tell(f"The tables in {path} cannot be written: {error}")
        return self._write_tables_of(self.folder)

    def _write_tables_of(self, folder: Path) -> list[Row]:
        with lock_when_free(folder, TABLES_LOCK):
            rows = rows_of(self.study, self.settings.monitor[0])
            write_results(folder, rows, [each.name for each in self.space.dimensions])
        return rows

    def _claim(self, held: ExitStack) -> optuna.Trial | None:
        """Return an idle trial of this folder, or else a new one; None if there are enough.

        Args:
            held: receives the trial's lock.
        """
        with study_locked(self.settings, self.folder):
            trials = begun(self.study)
            for frozen in trials:
                # A process killed right after it asked for a trial leaves one without a home.
                home = frozen.user_attrs.get("home", self.settings.home)
                if frozen.state == TrialState.RUNNING and home == self.settings.home:
                    try:
                        held.enter_context(locked(self._folder_of(frozen.number), TRIAL_LOCK))
                    except UsageError:
                        continue  # Another process of this sweep runs it.
                    return self._claimed(optuna.Trial(self.study, frozen._trial_id))
            if self.settings.trials is not None and len(trials) >= self.settings.trials:
                return None
            waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
            if self.settings.sampler == "grid" and not waiting:
                return None
            trial = self.study.ask()
            held.enter_context(locked(self._folder_of(trial.number), TRIAL_LOCK))
            return self._claimed(trial)

    def _claimed(self, trial: optuna.Trial) -> optuna.Trial:
        trial.set_user_attr("home", self.settings.home)
        trial.set_user_attr("folder", str(self._folder_of(trial.number)))
        return trial

    def _folder_of(self, number: int) -> Path:
        folder = self.folder / f"trial-{number:04d}"
        folder.mkdir(exist_ok=True)
        return folder

    def _run_trial(self, trial: optuna.Trial) -> Outcome:
        chosen = suggest(self.study, trial, self.settings, self.space)
        folder = self._folder_of(trial.number)
        with lock_when_free(folder):
            # The run of a killed sweep may not have ended yet.
            resumes = (folder / "run.json").is_file() and (folder / "params.json").is_file()
        if not resumes:
            _clear(folder)
        shown = ", ".join(f"{name} {_short(word)}" for name, word in chosen.items())
        self._tell(f"Trial {trial.number}{' resumed' if resumes else ''}: {shown}")
        score = Score(*self.settings.monitor, own=self.settings.own_monitor)
        known = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        visible = self.console if self.console.is_terminal and not self.quiet else Console(quiet=True)
        status = Status(f"Trial {trial.number}: starting", console=visible)

        def report(epoch: int, epochs: int, logs: Logs) -> bool:
            value = logs.get(score.name)
            now = "" if value is None else f", {score.name} {cell(value)}"
            status.update(f"Trial {trial.number}: epoch {epoch}/{epochs}{now}")
            if value is None or not math.isfinite(value) or epoch in known:
                return False
            trial.report(value, epoch)
            return trial.should_prune() and epoch < epochs

        started = time.monotonic()
        process = TrialProcess(self._request(folder, chosen, resumes=resumes), folder, self.settings.cwd, self.stop)
        try:
            with status:
                outcome = process.follow(score, report)
        finally:
            process.close()
        seconds = trial.user_attrs.get("seconds", 0.0) + time.monotonic() - started
        self._record(trial, outcome, score, seconds)
        return outcome

    def _request(self, folder: Path, chosen: Mapping[str, str], *, resumes: bool) -> dict[str, Any]:
        words = [*self.settings.train_words(), *self.space.options(chosen), f"--trainer.output_dir={folder}"]
        return {
            "words": withheld_words(self.settings) if resumes else words,
            "folder": str(folder) if resumes else None,
            "switches": get_plugin_manager().switches.to_plain(),
        }

    def _record(self, trial: optuna.Trial, outcome: Outcome, score: Score, seconds: float) -> None:
        found = {"seconds": seconds, "epoch": score.epoch, "value": score.value, "logs": score.logs}
        for name, value in (found | {"reason": outcome.reason}).items():
            trial.set_user_attr(name, value)
        if self.study.user_attrs.get(MONITORED) is None and score.logs:
            self.study.set_user_attr(MONITORED, score.name)
        match outcome.state:
            case "complete":
                self.study.tell(trial, score.value)
            case "pruned":
                self.study.tell(trial, state=TrialState.PRUNED)
            case "failed":
                self.study.tell(trial, state=TrialState.FAIL)
        rows = self.write_tables()
        row = next(each for each in rows if each.trial == trial.number)
        if row.params:
            write_experiment(self.folder, self.space.dimensions, score.mode, score.name)
            write_session(self._folder_of(trial.number), row, self.space.dimensions, score.name)
        result = "" if score.value is None else f", {score.name} {cell(score.value)} in epoch {score.epoch}"
        best = ", the best so far" if outcome.state == "complete" and rows[0].trial == trial.number else ""
        why = f": {outcome.reason}" if outcome.reason else ""
        self._tell(f"Trial {trial.number} {outcome.state}{result}{best} ({seconds:.1f} s){why}")

    def _refuse_hopeless(self) -> None:
        trials = [trial for trial in begun(self.study) if trial.state != TrialState.RUNNING]
        if len(trials) < ALIKE or any(trial.state != TrialState.FAIL for trial in trials):
            return
        reasons = [str(trial.user_attrs.get("reason", "")) for trial in trials]
        if len({re.sub(r"\d+", "", reason) for reason in reasons}) == 1:
            raise TrainingError(
                f"The first {len(trials)} trials failed for the same reason, so the sweep ends: "
                f"{reasons[-1].rstrip('.')}. Their output is in {LOG} in each trial's folder."
            )

    def _tell(self, text: str) -> None:
        if not self.quiet:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def withheld_words(settings: Settings) -> list[str]:
    """Return the options that a run does not record and that are needed to resume it."""
    given = Layer.from_arguments(settings.words).options
    kept = Layer.from_arguments(settings.recorded_words).options
    return [word for one, other in zip(given, kept, strict=True) if one != other for word in written(one)]


def _clear(folder: Path) -> None:
    """Remove the remains of a trial killed before its run began."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (LOG, TRIAL_LOCK):
            path.unlink()


def _short(word: str) -> str:
    try:
        return word if word.lstrip("-").isdigit() else f"{float(word):.4g}"
    except ValueError:
        return word
