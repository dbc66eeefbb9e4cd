"""The sweep itself: one trial after the other, each in a process of its own, until there are enough."""

from __future__ import annotations

import math
import re
import shutil
import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import optuna
from aip_plugins.commands.sweep.hparams import write_experiment, write_session
from aip_plugins.commands.sweep.locks import RUNNING, TABLES, enter_when_free
from aip_plugins.commands.sweep.process import LOG, Stop, TrialProcess, tail
from aip_plugins.commands.sweep.results import Row, number_text, rows_of, write_results
from aip_plugins.commands.sweep.score import Score
from aip_plugins.commands.sweep.search import Space
from aip_plugins.commands.sweep.settings import Settings, is_home
from aip_plugins.commands.sweep.study import begun, study_locked, suggest
from optuna.trial import TrialState
from rich.status import Status

from aipcore.console import Console
from aipcore.errors import TrainingError, UsageError
from aipcore.training.run_folder import locked

ALIKE = 3
"""So many trials that all fail the same way, and none that did not, end the sweep."""

NAMED = "aip_monitored"
"""Where the study keeps the monitored value's name, once it is known."""

FOLDER = "aip_folder:"
"""What the study's names of the sweep's folders begin with; the folder's `home` follows."""

PRUNED = "Pruned by the sweep: other trials were better by this epoch."


@attrs.define(kw_only=True)
class Outcome:
    """How a trial ended.

    Attributes:
        state: `complete`, `pruned`, `failed`, or `interrupted`, which is to go on another time.
        reason: why, if it failed.
        fatal: why no other trial can do better.
    """

    state: str
    reason: str = ""
    fatal: str = ""


@attrs.define(kw_only=True)
class Sweep:
    """A sweep that runs.

    Attributes:
        settings: what it is.
        space: its parameters.
        study: what Optuna keeps of it.
        folder: its folder.
        console: for what the user should know.
        quiet: whether that is only the end.
        stop: hears of signals.
    """

    settings: Settings
    space: Space
    study: optuna.Study
    folder: Path
    console: Console
    quiet: bool
    stop: Stop

    def run(self, timeout: float | None) -> None:
        """Runs trials until there are enough, the time is over, or a signal came.

        Raises:
            TrainingError: all of the first trials failed alike, or none has the monitored value.
        """
        started = time.monotonic()
        self.study.set_user_attr(FOLDER + self.settings.home, str(self.folder))
        while self.stop.received is None and (timeout is None or time.monotonic() - started < timeout):
            with ExitStack() as held:
                trial = self._take(held)
                if trial is None:
                    return
                outcome = self._run_trial(trial)
            if outcome.fatal:
                raise TrainingError(outcome.fatal)
            self._refuse_hopeless()

    def write_tables(self) -> list[Row]:
        """Write the tables of all folders that share the study and are on this host.

        A folder's tables are read and written under one lock. So they are complete even if the process of another
        folder ends last.

        Returns:
            All trials, the best first.
        """
        for name, path in self.study.user_attrs.items():
            home = name.removeprefix(FOLDER)
            if home not in (name, self.settings.home) and is_home(Path(path), home):
                try:
                    self._write_tables_of(Path(path))
                except (OSError, UsageError) as error:
                    self._tell(f"The tables in {path} are not written: {error}")
        return self._write_tables_of(self.folder)

    def _write_tables_of(self, folder: Path) -> list[Row]:
        with ExitStack() as writing:
            enter_when_free(writing, folder, TABLES)
            rows = rows_of(self.study, self.settings.monitor[0])
            write_results(folder, rows, [each.name for each in self.space.dimensions])
        return rows

    def _take(self, held: ExitStack) -> optuna.Trial | None:
        """A trial of this folder that nobody runs any more, or else a new one; None if there are enough."""
        with study_locked(self.settings, self.folder):
            trials = begun(self.study)
            for frozen in trials:
                # A process that was killed right after it asked for a trial leaves one without a home.
                home = frozen.user_attrs.get("home", self.settings.home)
                if frozen.state == TrialState.RUNNING and home == self.settings.home:
                    try:
                        held.enter_context(locked(self._folder_of(frozen.number), RUNNING))
                    except UsageError:
                        continue  # Another process of this sweep runs it.
                    return self._claimed(optuna.Trial(self.study, frozen._trial_id))
            if self.settings.trials is not None and len(trials) >= self.settings.trials:
                return None
            if self.settings.sampler == "grid" and not self.study.get_trials(
                deepcopy=False, states=(TrialState.WAITING,)
            ):
                return None
            trial = self.study.ask()
            held.enter_context(locked(self._folder_of(trial.number), RUNNING))
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
        with ExitStack() as run:
            # The run of a sweep that was killed may not have ended yet.
            enter_when_free(run, folder)
        goes_on = (folder / "run.json").is_file() and (folder / "params.json").is_file()
        if not goes_on:
            _clear(folder)
        shown = ", ".join(f"{name} {_short(word)}" for name, word in chosen.items())
        self._tell(f"Trial {trial.number}{' goes on' if goes_on else ''}: {shown}")
        score = Score(*self.settings.monitor, own=self.settings.own_monitor)
        started = time.monotonic()
        status = self._status(f"Trial {trial.number}: starting")
        process = TrialProcess(
            self._request(folder, chosen, goes_on=goes_on), folder / LOG, self.settings.cwd, self.stop
        )
        try:
            with status:
                outcome = self._follow(process, trial, score, folder, status)
        finally:
            process.close()
        seconds = trial.user_attrs.get("seconds", 0.0) + time.monotonic() - started
        self._record(trial, outcome, score, seconds)
        return outcome

    def _request(self, folder: Path, chosen: Mapping[str, str], *, goes_on: bool) -> dict[str, Any]:
        words = [*self.settings.train_words, *self.space.options(dict(chosen)), f"--trainer.output_dir={folder}"]
        switches = self.settings.switches
        return {
            "command": "resume" if goes_on else "train",
            # The run is the sweep's own, and of the scenario that the user named to the sweep.
            "words": [str(folder), "--trust", *_secrets(self.settings)] if goes_on else words,
            "folder": str(folder),
            "disabled": [switch.removeprefix("no:") for switch in switches if switch.startswith("no:")],
            "third_party": "--no-plugins" not in switches,
        }

    def _status(self, text: str) -> Status:
        """What a terminal shows for as long as a trial runs."""
        shown = self.console if self.console.is_terminal and not self.quiet else Console(quiet=True)
        return Status(text, console=shown)

    def _follow(
        self, process: TrialProcess, trial: optuna.Trial, score: Score, folder: Path, status: Status
    ) -> Outcome:
        """Answers the trial until it ends."""
        pruned = diverged = ""
        failed = None
        known = set(self.study.get_trials(deepcopy=False)[trial.number].intermediate_values)
        for event in process.events():
            match event["event"]:
                case "epoch":
                    logs, epoch = event["logs"], event["epoch"]
                    diverged = score.diverged(epoch, logs)
                    if score.own:
                        score.name = event["monitor"]
                    value = logs.get(score.name)
                    if value is not None and math.isfinite(value) and epoch not in known:
                        trial.report(value, epoch)
                        if trial.should_prune() and epoch < event["epochs"]:
                            pruned = PRUNED
                    now = "" if value is None else f", {score.name} {number_text(value)}"
                    status.update(f"Trial {trial.number}: epoch {epoch}/{event['epochs']}{now}")
                    process.say(score.unknown([logs], final=False) or diverged or pruned)
                case "failed":
                    failed = event["reason"]
                case "end":
                    process.leave()
                    return self._ended(event, score, pruned=pruned, diverged=diverged)
        process.leave()
        if self.stop.received is not None:
            return Outcome(state="interrupted")
        return Outcome(state="failed", reason=failed or f"{process.ended()}; {_last_words(folder / LOG)}")

    def _ended(self, event: Mapping[str, Any], score: Score, *, pruned: str, diverged: str) -> Outcome:
        history = event["history"]
        score.take(history)
        fatal = score.unknown(history, final=True)
        if fatal:
            return Outcome(state="failed", reason=fatal, fatal=fatal)
        if event["signal"] is not None:
            if self.stop.received is not None:
                return Outcome(state="interrupted")
            name = signal.Signals(event["signal"]).name
            return Outcome(state="failed", reason=f"ended by {name} from elsewhere; aip resume goes on with it")
        if diverged:
            return Outcome(state="failed", reason=diverged)
        if score.value is None:
            return Outcome(state="failed", reason=f"{score.name} was no number in any epoch")
        return Outcome(state="pruned" if pruned else "complete")

    def _record(self, trial: optuna.Trial, outcome: Outcome, score: Score, seconds: float) -> None:
        found = {"seconds": seconds, "epoch": score.epoch, "value": score.value, "logs": score.logs}
        for name, value in (found | {"reason": outcome.reason}).items():
            trial.set_user_attr(name, value)
        if self.study.user_attrs.get(NAMED) is None and score.logs:
            self.study.set_user_attr(NAMED, score.name)
        match outcome.state:
            case "complete":
                assert score.value is not None
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
        value = "" if score.value is None else f", {score.name} {number_text(score.value)} in epoch {score.epoch}"
        best = ", the best so far" if outcome.state == "complete" and rows[0].trial == trial.number else ""
        why = f": {outcome.reason}" if outcome.reason else ""
        self._tell(f"Trial {trial.number} {outcome.state}{value}{best} ({seconds:.1f} s){why}")

    def _refuse_hopeless(self) -> None:
        trials = [trial for trial in begun(self.study) if trial.state != TrialState.RUNNING]
        if len(trials) < ALIKE or any(trial.state != TrialState.FAIL for trial in trials):
            return
        reasons = [str(trial.user_attrs.get("reason", "")) for trial in trials]
        if len({re.sub(r"\d+", "", reason) for reason in reasons}) == 1:
            raise TrainingError(
                f"The first {len(trials)} trials all failed alike, so the sweep ends here: {reasons[-1].rstrip('.')}; "
                f"what they printed is in {LOG} of each trial's folder."
            )

    def _tell(self, text: str) -> None:
        if not self.quiet:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _clear(folder: Path) -> None:
    """Takes away what a trial left that was killed before its run had begun."""
    for path in folder.iterdir():
        if path.name in (LOG, RUNNING):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _secrets(settings: Settings) -> list[str]:
    """Return the options that a run does not record, which it is given again to be resumed."""
    found: list[str] = []
    option = ""
    for word, recorded in zip(settings.words, settings.recorded_words or settings.words, strict=True):
        option = word if word.startswith("--") else option
        if word != recorded:
            found.append(word if word.startswith("--") else f"{option.partition('=')[0]}={word}")
    return found


def _last_words(log: Path) -> str:
    last = tail(log)
    return f"{log} ends with: {last[0]}" if last else f"{log} is empty"


def _short(word: str) -> str:
    try:
        return word if word.lstrip("-").isdigit() else f"{float(word):.4g}"
    except ValueError:
        return word
