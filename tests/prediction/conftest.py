"""Small scenarios in separate files, trained once by the command for all tests of trained models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from aipcore.cli.main import main

DENSE = '''
"""Noisy points; validation points lie elsewhere, so that scores on the one are not those on the other."""

from pathlib import Path

import numpy as np

from aipcore.params import field, group, params
from aipcore.scenario import DataParams, Evaluator, PostProcessor, Processor, Sample, Scenario, ScenarioParams


@params
class Data(DataParams):
    noise: float = field(1.0, help="Noise of the validation points.")
    words: Path | None = field(None, help="Names of the classes.", resource=True)
    extra: tuple[Path, ...] = field((), help="Further files.", resource=True)


@params
class Params(ScenarioParams):
    data: Data = group(Data, help="Points.")


def points(samples, seed, noise):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, samples).astype(np.int32)
    centres = np.random.default_rng(99).normal(size=(4, 12))
    return (centres[labels] + noise * generator.normal(size=(samples, 12))).astype(np.float32), labels


class Double(Processor):
    def process(self, sample):
        return Sample(inputs=sample.inputs * 2, targets=sample.targets, meta=sample.meta)


class Name(PostProcessor):
    def __init__(self, words):
        self.words = words

    def process(self, outputs, meta):
        best = int(outputs[""].argmax())
        return {"class": self.words[best], "logit": float(outputs[""][best])}


class Counter(Evaluator):
    def __init__(self):
        self.right = self.seen = 0

    def update(self, targets, outputs, meta):
        self.seen += len(meta)
        self.right += int((outputs[""].argmax(-1) == targets[""]).sum())

    def result(self):
        return {"share": self.right / self.seen, "seen": self.seen}

    def report(self):
        return f"{self.right} are right."


class Points(Scenario):
    """Tells points apart, with penalties of all kinds."""

    params_class = Params
    defaults = {"trainer.epochs": 3, "trainer.random_seed": 3, "trainer.jit_compile": "off", "val.batch_size": 24,
                "learning_rate.lr": 0.02}
    monitor = ("max", "accuracy")

    def samples(self, number, seed, noise):
        x, y = points(number, seed, noise)
        return [Sample(inputs=a, targets=b, meta={"number": n}) for n, (a, b) in enumerate(zip(x, y))]

    def train_data(self):
        return self.samples(150, 1, 0.3)

    def val_data(self):
        return self.samples(61, 2, self.params.data.noise)

    def processors(self):
        return [Double()]

    def post_processors(self):
        words = self.params.data.words
        return [Name(words.read_text().split() if words else ["a", "b", "c", "d"])]

    def prediction_writers(self):
        return {".names": self.write_names}

    def write_names(self, path, predictions, about):
        names = [each.outputs["class"] for each in predictions]
        path.write_text(" ".join([about["versions"]["aipcore"], str(self.params.val.limit), *names]))

    def build(self, inputs):
        from keras import layers

        hidden = layers.Dense(16, activation="relu", kernel_regularizer="l2", activity_regularizer="l2")(inputs)
        hidden = layers.Dropout(0.3)(layers.BatchNormalization()(hidden))
        return layers.Dense(4, bias_regularizer="l1")(hidden)

    def losses(self):
        import keras

        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self):
        import keras

        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def evaluator(self):
        return Counter()
'''

MASKED = '''
"""Sequences of several lengths, each step with a class of its own; the padding is masked."""

import numpy as np

from aipcore.scenario import Sample, Scenario


def sequences(samples, seed):
    generator = np.random.default_rng(seed)
    for _ in range(samples):
        steps = int(generator.integers(2, 9))
        x = generator.normal(size=(steps, 3)).astype(np.float32)
        yield Sample(inputs={"x": x}, targets={"y": (x.sum(axis=1) > 0).astype(np.int32)})


class Steps(Scenario):
    """Classifies steps."""

    defaults = {"trainer.epochs": 2, "trainer.random_seed": 3, "trainer.jit_compile": "off", "trainer.calc_ema": 0.5}

    def train_data(self):
        return sequences(60, 1)

    def val_data(self):
        return sequences(37, 2)

    def build(self, inputs):
        from keras import layers

        return {"y": layers.Dense(2)(layers.LSTM(5, return_sequences=True)(layers.Masking()(inputs['x'])))}

    def losses(self):
        import keras

        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
'''


@attrs.frozen(kw_only=True)
class Run:
    """A finished run.

    Attributes:
        folder: The run folder.
        history: The logged values, epoch by epoch.
        best: The index of the best epoch, from 0.
    """

    folder: Path
    history: list[dict[str, float]]
    best: int

    def validated(self, epoch: int) -> dict[str, float]:
        """Return the validation values of an epoch."""
        logs = self.history[epoch]
        return {name.removeprefix("val_"): value for name, value in logs.items() if name.startswith("val_")}


@pytest.fixture(scope="session")
def dense_source() -> str:
    """Return the source of the scenario of points."""
    return DENSE


@pytest.fixture(scope="session")
def masked_source() -> str:
    """Return the source of the scenario of masked sequences."""
    return MASKED


@pytest.fixture(scope="session")
def train(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Train a scenario, given by its source or a plugin's name, by the command, in this process."""

    def train(source: str, *words: str) -> Run:
        folder = tmp_path_factory.mktemp("run")
        scenario = source
        if "\n" in source:
            (folder / "scenario.py").write_text(source)
            scenario = str(folder / "scenario.py")
        assert main(["train", scenario, "--trainer.output_dir", str(folder / "out"), "--quiet", *words]) == 0
        newest = max((folder / "out" / "checkpoint").glob("step-*"))
        progress = json.loads((newest / "progress.json").read_text())
        return Run(folder=folder / "out", history=progress["history"], best=progress["monitor"]["best_epoch"] - 1)

    return train


@pytest.fixture(scope="session")
def words_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a file with the names of the classes."""
    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_text("north east south west")
    return path


@pytest.fixture(scope="session")
def points(train: Callable[..., Run], words_file: Path) -> Run:
    """Train a run with penalties, EMA, processors and a resource."""
    return train(DENSE, "--trainer.calc_ema", "0.8", "--data.words", str(words_file))


@pytest.fixture(scope="session")
def steps(train: Callable[..., Run]) -> Run:
    """Train a run on sequences whose padding is masked."""
    return train(MASKED)


@pytest.fixture(scope="session")
def digits(train: Callable[..., Run]) -> Run:
    """Train a run of the tutorial."""
    return train("tutorial", "--trainer.epochs", "2", "--trainer.random_seed", "3", "--trainer.jit_compile", "off")


@pytest.fixture
def lav(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run `aip lav` or `aip evaluate` in this process and return the values of its lists by name."""

    def lav(*words: str, command: str = "lav") -> dict[str, Any]:
        file = tmp_path / "scores.json"
        assert main([command, *words, "--trust", "--json", str(file)]) == 0
        return {each["name"]: each["values"] for each in json.loads(file.read_text())["lists"]}

    return lav
