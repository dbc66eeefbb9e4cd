"""Runs killed with SIGKILL at random moments and resumed end in the very bits of a run that was left alone."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import forks
import pytest

from aipcore.training.checkpoint import find_newest, newest_checkpoint, read_checkpoint

AIP = [sys.executable, "-c", "import sys; from aipcore.cli.main import main; sys.exit(main())"]

SCENARIO = '''
"""Noisy points, with dropout, batch normalisation and augmentation."""
import attrs

from aipcore.scenario import RandomProcessor, Scenario


class Jitter(RandomProcessor):
    """Moves each point a little, to another place on each visit."""

    def process(self, sample, rng):
        return attrs.evolve(sample, inputs=sample.inputs + rng.normal(0, 0.1, 12).astype("float32"))


class Points(Scenario):
    """Tells noisy points apart."""

    monitor = ("max", "accuracy")

    def _points(self, samples, seed):
        import numpy as np

        generator = np.random.default_rng(seed)
        labels = generator.integers(0, 4, samples).astype(np.int32)
        centres = np.random.default_rng(99).normal(size=(4, 12))
        return (centres[labels] + 2 * generator.normal(size=(samples, 12))).astype(np.float32), labels

    def train_data(self):
        return self._points(3000, 1)

    def val_data(self):
        return self._points(500, 2)

    def processors(self):
        return [Jitter()]

    def build(self, inputs):
        from keras import layers

        hidden = layers.Dense(256, activation="relu")(inputs)
        hidden = layers.Dropout(0.3)(layers.BatchNormalization()(hidden))
        hidden = layers.Dense(256, activation="relu")(hidden)
        return layers.Dense(4)(layers.Dropout(0.2)(hidden))

    def losses(self):
        import keras

        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self):
        import keras

        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
'''

WORDS = (
    "--trainer.epochs", "4", "--trainer.random_seed", "11", "--train.batch_size", "16",
    "--trainer.accumulate_steps", "3",
    "--trainer.calc_ema", "0.99", "--learning_rate", "CosineDecay", "--callbacks", "CSVLog", "ReduceOnPlateau",
    "--callbacks.ReduceOnPlateau.patience", "1", "--checkpoint.every_steps", "20", "--checkpoint.keep", "3",
    "--trainer.lav_every_n", "2",
)  # fmt: skip

FEW = 12
"""Kills in the test that always runs."""

STEPS = 4 * 188
"""Batches in the run."""


def start(folder: Path, *words: str) -> forks.Forked:
    """Starts `aip` in a folder."""
    environment = {**os.environ, "NO_COLOR": "1"}
    return forks.start([*AIP, *words], cwd=folder, env=environment)


def finish(process: forks.Forked) -> str:
    """The output of a process that must succeed."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, output + errors
    return output


def outcome(run: Path) -> dict[str, Any]:
    """Everything that a run leaves for good, in a form that only equal bits make equal."""
    stored = read_checkpoint(newest_checkpoint(run / "checkpoint"))
    return {
        "variables": {name: (array.dtype.name, array.tobytes()) for name, array in stored.arrays.items()},
        "history": stored.progress["history"],
        "callbacks": stored.progress["callbacks"],
        "monitor": stored.progress["monitor"],
        "csv": (run / "log.csv").read_text(),
        "curves": curves(run / "tensorboard"),
        "best": weights(run / "best"),
        "export": weights(run / "export"),
    }


def weights(model: Path) -> dict[str, str]:
    """What the files of a model's variables hold."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(model / "variables" / "variables"))
    names = sorted(name for name in reader.get_variable_to_shape_map() if name.startswith("state/"))
    assert names
    return {name: hashlib.sha256(reader.get_tensor(name).tobytes()).hexdigest() for name in names}


def curves(folder: Path) -> dict[tuple[str, str], list[tuple[int, bytes]]]:
    """All points that TensorBoard's own reader finds, by part and name."""
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    events = EventMultiplexer().AddRunsFromDirectory(str(folder))
    events.Reload()
    return {
        (part, tag): [(event.step, event.tensor_proto.SerializeToString()) for event in events.Tensors(part, tag)]
        for part, tags in events.Runs().items()
        for tag in tags["tensors"]
    }


def resume_and_kill(folder: Path, kills: int, seed: int) -> dict[str, list[Any]]:
    """Resumes a run, killing the process at random moments, until one is left to finish.

    Returns:
        the newest checkpoint after each kill, and the number of unfinished folders that each kill left.
    """
    chance = random.Random(seed)
    run = folder / "killed"
    seen: dict[str, list[Any]] = {"killed at": [], "unfinished writes": []}
    for target in sorted(chance.randint(1, STEPS - 200) for _ in range(kills)):
        process = start(folder, "resume", "killed", "--trust", "--quiet")
        # Most of a process's time is the start of TensorFlow: what is random is how far it comes after that. A name
        # that begins with a dot is a write that has begun; if the run is beyond the target, one more will do.
        begun, now = listing(run), listing(run)
        while process.poll() is None and (now == begun or max(map(step_of, now), default=0) < target):
            now = listing(run)
            time.sleep(0.001)
        time.sleep(chance.choice([0, 0.01]) * chance.random())
        process.send_signal(signal.SIGKILL)
        output, errors = process.communicate()
        if process.returncode == 0:
            # It was faster than we: the bits can still be compared.
            break
        assert process.returncode == -signal.SIGKILL, output + errors
        seen["killed at"].append(getattr(find_newest(run / "checkpoint")[0], "name", "none"))
        seen["unfinished writes"].append(len(list(run.glob(".*.new"))) + len(list(run.glob("checkpoint/.*.new"))))
    assert seen["killed at"]
    finish(start(folder, "resume", "killed", "--trust"))
    return seen


def listing(run: Path) -> set[str]:
    """The checkpoints that are there or being written, and the models."""
    found = set()
    for folder in (run, run / "checkpoint"):
        with contextlib.suppress(FileNotFoundError):
            found |= {path.name for path in folder.iterdir()}
    return found


def step_of(name: str) -> int:
    """The number in the name of a checkpoint, finished or not."""
    found = re.fullmatch(r"\.?step-(\d+)(\.new)?", name)
    return int(found[1]) if found else 0


def begin_and_kill(folder: Path, *words: str) -> None:
    """Begins a run and kills it when it has computed little or nothing, but chosen how it is compiled."""
    (folder / "points.py").write_text(SCENARIO)
    process = start(folder, "train", "points.py", *WORDS, *words, "--trainer.output_dir", "killed")
    while process.poll() is None and find_newest(folder / "killed" / "checkpoint")[0] is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    output, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, output + errors


def compare(run: Path, expected: dict[str, Any]) -> None:
    """Sees that nothing differs, saying what does."""
    found = outcome(run)
    for part, value in expected.items():
        if isinstance(value, dict):
            assert found[part].keys() == value.keys(), part
            assert [key for key in value if found[part][key] != value[key]] == [], part
        assert found[part] == value, part


@pytest.mark.parametrize(
    ("kills", "words"),
    [
        pytest.param(FEW, ("--trainer.jit_compile", "off"), id="few"),
        pytest.param(25, ("--trainer.jit_compile", "off"), id="many", marks=pytest.mark.slow),
        pytest.param(8, ("--trainer.jit_compile", "on"), id="XLA", marks=pytest.mark.slow),
        pytest.param(8, ("--trainer.jit_compile", "off", "--data.workers", "2"), id="workers", marks=pytest.mark.slow),
        pytest.param(8, ("--device.cpus", "2", "--device.strategy", "mirror"), id="mirror", marks=pytest.mark.slow),
    ],
)
def test_kill_and_resume(tmp_path: Path, kills: int, words: tuple[str, ...]) -> None:
    """Variables, history, CSV file, curves, best and export are bit for bit those of a run left alone."""
    begin_and_kill(tmp_path, *words)
    finish(start(tmp_path, "train", "points.py", *WORDS, *words, "--trainer.output_dir", "alone"))
    print(json.dumps(resume_and_kill(tmp_path, kills, seed=kills)))  # noqa: T201 - shown if the test fails
    compare(tmp_path / "killed", outcome(tmp_path / "alone"))


@pytest.mark.slow
def test_kill_with_a_measured_choice(tmp_path: Path) -> None:
    """Which way of compiling is faster is measured once, before the first batch, and then kept, also by a copy."""
    begin_and_kill(tmp_path)
    shutil.copytree(tmp_path / "killed", tmp_path / "alone")
    finish(start(tmp_path, "resume", "alone", "--trust"))
    print(json.dumps(resume_and_kill(tmp_path, 3, seed=1)))  # noqa: T201 - shown if the test fails
    compare(tmp_path / "killed", outcome(tmp_path / "alone"))
