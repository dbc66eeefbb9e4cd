"""Runs that are killed with SIGKILL at random moments and resumed, and a comparison with an uninterrupted run."""

from __future__ import annotations

import csv
import hashlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import forks

from aipcore.training.checkpoint.format import newest_checkpoint, read_checkpoint
from aipcore.training.reporter import SAMPLES_PER_SECOND

Process = subprocess.Popen[str] | forks.Forked

AIP = [sys.executable, "-c", "import sys; from aipcore.cli.main import main; sys.exit(main())"]

SCENARIO = '''
"""Noisy points, with dropout, batch normalization, augmentation and an evaluator."""
from pathlib import Path

import attrs

from aipcore.scenario import Evaluator, RandomProcessor, Scenario


class Jitter(RandomProcessor):
    """Moves each point to a different place on each visit."""

    def process(self, sample, rng):
        return attrs.evolve(sample, inputs=sample.inputs + rng.normal(0, 0.1, 12).astype("float32"))


class Sum(Evaluator):
    """The sum of all outputs; a file shows that it is being computed."""

    def __init__(self):
        self.sum = 0.0

    def update(self, targets, outputs, meta):
        Path("evaluating").touch()
        self.sum += float(outputs[""].sum())

    def result(self):
        Path("evaluating").unlink(missing_ok=True)
        return {"sum": self.sum}


class Points(Scenario):
    """Classification of noisy points."""

    monitor = ("max", "accuracy")

    def _points(self, samples, seed):
        import numpy as np

        generator = np.random.default_rng(seed)
        labels = generator.integers(0, 4, samples).astype(np.int32)
        centres = np.random.default_rng(99).normal(size=(4, 12))
        return (centres[labels] + 2 * generator.normal(size=(samples, 12))).astype(np.float32), labels

    def train_data(self):
        return self._points(1450, 1)

    def val_data(self):
        return self._points(300, 2)

    def evaluator(self):
        return Sum()

    def processors(self):
        return [Jitter()]

    def build(self, inputs):
        from keras import layers

        hidden = layers.Dense(64, activation="relu")(inputs)
        hidden = layers.Dropout(0.3)(layers.BatchNormalization()(hidden))
        hidden = layers.Dense(64, activation="relu")(hidden)
        return layers.Dense(4)(layers.Dropout(0.2)(hidden))

    def losses(self):
        import keras

        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self):
        import keras

        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
'''

WORDS = (
    "--trainer.epochs", "6", "--trainer.random_seed", "11", "--train.batch_size", "16",
    "--trainer.accumulate_steps", "3", "--trainer.calc_ema", "0.99", "--learning_rate", "CosineDecay",
    "--checkpoint.every_steps", "20", "--checkpoint.keep", "3", "--trainer.lav_every_n", "2",
)  # fmt: skip
CALLBACKS = ("CSVLog", "LearningRateMonitor", "ReduceOnPlateau", "Webhook", "WeightHistograms")
CALLBACK_WORDS = (
    "--callbacks.reduce_on_plateau.patience", "1", "--callbacks.learning_rate_monitor.csv",
    "--callbacks.webhook.url", "http://127.0.0.1:9/", "--callbacks.webhook.new_best",
)  # fmt: skip
TRACKERS = ("MLflow", "WandB")
"""Callbacks that the chief alone runs, in threads. They double the time of a process."""

KILLS_OF_A_RUN = 8

WHERE = ("start", "resume", "training", "checkpoint", "model", "LAV")
"""The moments that are aimed at: before the folder is read, when it is prepared, and what a run does then."""


@attrs.define
class Killed:
    """The outcome of the kills in one configuration.

    Attributes:
        kills: Number of kills.
        runs: Number of runs that were killed and resumed to their end.
        where: Number of kills by the activity that they interrupted.
        differences: Differences from the uninterrupted run, by run.
        seconds: Total duration.
    """

    kills: int = 0
    runs: int = 0
    where: Counter[str] = attrs.field(factory=Counter)
    differences: list[str] = attrs.field(factory=list)
    seconds: float = 0.0

    def row(self, name: str) -> str:
        """Return a line of a table."""
        hit = ", ".join(f"{where} {self.where[where]}" for where in WHERE if self.where[where])
        result = "; ".join(self.differences) or "bit-equal"
        return f"{name:<20} {self.kills:>5} {self.runs:>4} {self.seconds:>5.0f} s  {hit:<76} {result}"


class Runs:
    """Runs of one configuration in a folder.

    Args:
        folder: An empty folder.
        words: Further arguments of `aip train`.
        workers: Number of processes of a run; `aip launch` starts more than one.
        trackers: If True, the callbacks include the experiment trackers.
        forked: If True, processes are forked from one that has imported TensorFlow, which saves its import.
        reference: If False, no uninterrupted run is made, and the attributes that it gives are set by the caller.
    """

    def __init__(
        self,
        folder: Path,
        *words: str,
        workers: int = 1,
        trackers: bool = False,
        forked: bool = False,
        reference: bool = True,
    ) -> None:
        self.folder = folder
        self.forked = forked
        callbacks = (*CALLBACKS, *CALLBACK_WORDS)
        if trackers:
            callbacks = (*TRACKERS, *callbacks, "--callbacks.wandb.mode", "offline")
        tune = () if "--trainer.tune" in words else ("--trainer.tune", "off")
        self.words = (*WORDS, *tune, *words, "--callbacks", *callbacks)
        self.launch = () if workers == 1 else ("launch", "--workers", str(workers))
        (folder / "points.py").write_text(SCENARIO)
        self.trackers = trackers
        if trackers:
            from mlflow import MlflowClient

            # MLflow cannot reopen a database if a kill interrupted its creation.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                MlflowClient(f"sqlite:///{folder / 'template.db'}").search_experiments()
        if not reference:
            return
        began = time.monotonic()
        process = self.start("alone")
        self.until(process, lambda: bool(_folders(folder / "alone")))
        trains = time.monotonic()
        finish(process)
        self.start_seconds, self.train_seconds = trains - began, time.monotonic() - trains
        self.expected = outcome(folder / "alone")

    def start(self, name: str) -> Process:
        """Start or resume a run."""
        run = self.folder / name
        (self.folder / "evaluating").unlink(missing_ok=True)
        words = ["resume", name, "--trust", "--quiet"]
        if not (run / "run.json").exists():
            words = ["train", "points.py", *self.words, "--trainer.output_dir", name, "--quiet"]
            if self.trackers:
                words += ["--callbacks.mlflow.tracking_uri", f"sqlite:///{name}.db"]
                if not run.with_suffix(".db").exists():
                    shutil.copy(self.folder / "template.db", run.with_suffix(".db"))
        command, environment = [*AIP, *self.launch, *words], {**os.environ, "NO_COLOR": "1"}
        if self.forked:
            return forks.start(command, cwd=self.folder, env=environment, children=bool(self.launch))
        return subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def kill(self, kills: int, seed: int, most_runs: int = 1000) -> Killed:
        """Kill and resume runs until there were `kills` kills, finish each run, and compare the final states."""
        chance, seen, began = random.Random(seed), Killed(), time.monotonic()
        while seen.kills < kills and seen.runs < most_runs:
            name = f"killed-{seen.runs}"
            for _ in range(KILLS_OF_A_RUN):
                if seen.kills == kills or not self._kill_once(name, chance, seen):
                    break
            finish(self.start(name))
            seen.runs += 1
            found = differences(self.expected, outcome(self.folder / name))
            seen.differences += [f"run {seen.runs}: {each}" for each in found]
        seen.seconds = time.monotonic() - began
        return seen

    def _kill_once(self, name: str, chance: random.Random, seen: Killed) -> bool:
        """Kill a process at a random moment; return False if it had finished the run before."""
        run, aim = self.folder / name, chance.choices(WHERE, (2, 3, 8, 5, 4, 3))[0]
        record, before = _stamp(run / "run.json"), _folders(run)
        process = self.start(name)
        if aim == "start":
            self.until(process, lambda: False, chance.random() * self.start_seconds)
        else:
            self.until(process, lambda: _stamp(run / "run.json") != record)
            if aim == "resume":
                self.until(process, lambda: False, 0.5 * chance.random())
            else:
                self.until(process, lambda: _folders(run) != before)
                self.until(process, lambda: False, 2 * chance.random() * self.train_seconds / KILLS_OF_A_RUN)
        if aim in ("checkpoint", "model", "LAV"):
            self.until(process, lambda: self._now(run) == aim)
            time.sleep(0.01 * chance.choice([0, 1]) * chance.random())
        victim = chance.choice([process.pid, *forks.children(process.pid)]) if self.launch else process.pid
        if process.poll() is None:
            os.kill(victim, signal.SIGKILL)
        output, errors = process.communicate(timeout=300)
        if process.returncode == 0:
            return False
        assert process.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), output + errors
        seen.kills += 1
        seen.where[aim if aim in ("start", "resume") else self._now(run)] += 1
        return True

    def _now(self, run: Path) -> str:
        """Return the run's current activity, as far as its files show it."""
        if any(name.startswith(".step-") for name in _folders(run)):
            return "checkpoint"
        if any((run / f".{name}.new").exists() for name in ("best", "export")):
            return "model"
        return "LAV" if (self.folder / "evaluating").exists() else "training"

    @staticmethod
    def until(process: Process, reached: Callable[[], bool], seconds: float = 300.0) -> None:
        """Wait until the condition holds, the process has ended or the time is over."""
        deadline = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < deadline and not reached():
            time.sleep(0.001)


def _folders(run: Path) -> set[str]:
    try:
        return {path.name for path in (run / "checkpoint").iterdir()}
    except FileNotFoundError:
        return set()


def _stamp(file: Path) -> int:
    return file.stat().st_ino if file.exists() else 0


def finish(process: Process) -> None:
    """Wait for a process that must succeed."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, output + errors


def outcome(run: Path) -> dict[str, dict[Any, Any]]:
    """Return the lasting results of a run in a form that is equal only if all bits are equal."""
    stored = read_checkpoint(newest_checkpoint(run / "checkpoint"))
    states = stored.progress["callbacks"]
    trackers = [states.pop(tracker) for tracker in TRACKERS if tracker in states]
    return {
        "variables": {name: (array.dtype.name, array.tobytes()) for name, array in stored.arrays.items()},
        "history": dict(enumerate(stored.progress["history"])),
        "callbacks": states,
        "validations": dict(enumerate(stored.progress["validations"])),
        "monitor": {"": stored.progress["monitor"]},
        **{file.name: dict(enumerate(csv.reader(file.read_text().splitlines()))) for file in run.glob("*.csv")},
        "TensorBoard": dict(_curves(run / "tensorboard")),
        "MLflow": _metrics(run.with_suffix(".db")) if trackers else {},
        "best": _weights(run / "best"),
        "export": _weights(run / "export"),
    }


def _weights(model: Path) -> dict[str, str]:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(model / "variables" / "variables"))
    names = sorted(name for name in reader.get_variable_to_shape_map() if name.startswith("state/"))
    assert names
    return {name: hashlib.sha256(reader.get_tensor(name).tobytes()).hexdigest() for name in names}


def _curves(folder: Path) -> Iterator[tuple[tuple[str, str], list[tuple[int, bytes]]]]:
    """Yield all points that TensorBoard's own reader finds, by part and name."""
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    events = EventMultiplexer(size_guidance={"tensors": 0}).AddRunsFromDirectory(str(folder))
    events.Reload()
    for part, tags in events.Runs().items():
        for tag in sorted(set(tags["tensors"]) - {SAMPLES_PER_SECOND}):
            points = [(event.step, event.tensor_proto.SerializeToString()) for event in events.Tensors(part, tag)]
            yield (part, tag), points


def _metrics(file: Path) -> dict[tuple[str, int], list[float]]:
    """Return all values of the only run in MLflow."""
    connection = sqlite3.connect(file)
    try:
        assert connection.execute("select count(*) from runs").fetchone() == (1,)
        found: dict[tuple[str, int], list[float]] = {}
        for key, step, value in connection.execute("select key, step, value from metrics order by key, step"):
            found.setdefault((key, step), []).append(value)
        return found
    finally:
        connection.close()


def differences(expected: dict[str, dict[Any, Any]], found: dict[str, dict[Any, Any]]) -> list[str]:
    """Return the differences, as text."""
    seen = []
    for part in sorted(expected.keys() | found.keys()):
        one, other = expected.get(part, {}), found.get(part, {})
        keys = [key for key in sorted(one.keys() | other.keys(), key=str) if repr(one.get(key)) != repr(other.get(key))]
        if keys:
            seen.append(f"{part} differs at {len(keys)} of {len(one)} places, first {keys[0]}")
    return seen
