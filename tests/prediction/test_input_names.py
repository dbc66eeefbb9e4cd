"""Input names that are not identifiers: columns of tables, paths, words of any language."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aipcore.cli.main import main
from aipcore.errors import ScenarioError
from aipcore.scenario import Scenario
from aipcore.scenario.model import argument_names

NAMES = ["pixel values", "a/b", "1st", "größe", "self", "name"]

SOURCE = f"""
import attrs
import numpy as np
from aipcore.scenario import Evaluator, Processor, Scenario

NAMES = {NAMES!r}


class Half(Processor):
    def process(self, sample):
        return attrs.evolve(sample, inputs={{name: value * np.float32(0.5) for name, value in sample.inputs.items()}})


class Count(Evaluator):
    def __init__(self):
        self.seen = 0

    def update(self, targets, outputs, meta):
        self.seen += len(outputs["the class"]) * ("the/class" in targets)

    def result(self):
        return {{"seen": self.seen}}


class Odd(Scenario):
    defaults = {{"trainer.epochs": 1, "trainer.tune": "off", "trainer.random_seed": 1, "data.workers": 1}}

    def train_data(self):
        x = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
        targets = {{"the class": x[:, :1], "the/class": x[:, 1:]}}
        return {{name: x + number for number, name in enumerate(NAMES)}}, targets

    val_data = train_data

    def processors(self):
        return [Half()]

    def evaluator(self):
        return Count()

    def build(self, inputs):
        from keras import layers

        assert list(inputs) == NAMES
        hidden = layers.Concatenate()(list(inputs.values()))
        return {{"the class": layers.Dense(1)(hidden), "the/class": layers.Dense(2)(hidden)}}

    def build_prediction(self, model):
        import keras

        return keras.Model(model.input, {{"the class": model.output["the class"]}})

    def losses(self):
        return {{"the class": "mse", "the/class": "mae"}}
"""


def test_from_training_to_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training, resuming, scoring, prediction and other programs accept such names, with the outputs of Keras."""
    (tmp_path / "odd.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    assert main(["train", "odd.py", "--trainer.output_dir", "run", "--export.formats", "keras"]) == 0
    assert main(["resume", "run", "--trust", "--trainer.epochs", "2"]) == 0
    assert main(["lav", "run/export", "--trust", "--dump", "answers.npz"]) == 0
    scores = [line for line in capsys.readouterr().out.splitlines() if line.startswith("the class_loss")]
    assert main(["evaluate", "answers.npz", "--trust"]) == 0
    assert scores[-1:] == [line for line in capsys.readouterr().out.splitlines() if line.startswith("the class_loss")]

    import keras
    import tensorflow as tf

    from aipcore.prediction import Predictor

    x = np.random.default_rng(5).normal(size=(4, 3)).astype(np.float32)
    inputs = {name: x * number for number, name in enumerate(NAMES)}
    ours = Predictor.load("run/export", trust=True).predict_raw(inputs)["the class"]
    arguments = {"pixel_values", "a_b", "arg_1st", "gru00f6u00dfe", "arg_self", "name"}
    loaded = tf.saved_model.load("run/export")
    served = loaded.signatures["serving_default"]
    assert set(served.structured_input_signature[1]) == arguments
    given = {argument: inputs[name] for name, argument in argument_names(NAMES).items()}
    theirs = served(**{name: tf.constant(value) for name, value in given.items()})["the class"].numpy()
    file = keras.models.load_model("run/export/model.keras")
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(ours, file(given)["the class"].numpy(), rtol=1e-6)
    kernel, bias = (each.numpy() for each in file.trainable_variables)
    stacked = np.concatenate([inputs[name] for name in NAMES], axis=1)
    np.testing.assert_allclose(ours, stacked @ kernel + bias, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "names",
    [
        ["a b", "a_b"],
        ["a/b", "x", "a b"],
        ["1", "arg_1"],
    ],
)
def test_two_inputs_of_one_name(names: list[str], make_trainer: Any, refused: Any) -> None:
    """Two names that map to one identifier are refused before the model is built."""

    class Clash(Scenario):
        def train_data(self) -> Any:
            x = np.ones((4, 2), np.float32)
            return dict.fromkeys(names, x), x

        def build(self, inputs: Any) -> Any:
            raise AssertionError

        def losses(self) -> Any:
            return "mse"

    with refused(ScenarioError):
        make_trainer(Clash)


def test_names_that_need_no_change() -> None:
    """Identifiers are kept, and the name of one input does not depend on the others."""
    assert argument_names(["x", "Input_2", "training"]) == {"x": "x", "Input_2": "Input_2", "training": "training"}
    assert argument_names([""]) == {"": "inputs"}
    assert argument_names(["尺寸"])["尺寸"] == argument_names(["x", "颜色", "尺寸"])["尺寸"]
