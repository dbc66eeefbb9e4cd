"""`aip export`: a model in another format with the same outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aipcore.cli.main import main
from aipcore.prediction import Predictor


@pytest.mark.parametrize("source", ["best", "checkpoint"])
def test_keras_file_answers_like_the_model(points: Any, tmp_path: Path, source: str) -> None:
    """The Keras file of a SavedModel or a checkpoint has the averaged weights."""
    import keras

    target = tmp_path / "keras"
    model = str(points.folder / source)
    assert main(["export", model, "--trust", "--format", "keras", "--output", str(target)]) == 0
    inputs = np.random.default_rng(0).normal(size=(5, 12)).astype(np.float32)
    loaded = keras.saving.load_model(target / "model.keras", safe_mode=True)
    expected = Predictor.load(model, trust=True).predict_raw(inputs)
    np.testing.assert_allclose(loaded(inputs), expected, rtol=1e-5, atol=1e-6)
    assert json.loads((target / "aip.json").read_text())["scenario"]["name"] == "scenario"
    assert (target / "resources" / "words.txt").is_file()


def test_saved_model_of_a_checkpoint(points: Any, lav: Any, tmp_path: Path) -> None:
    """A SavedModel of a checkpoint has the same LAV scores as the run."""
    target = tmp_path / "model"
    newest = str(points.folder / "checkpoint")
    assert main(["export", newest, "--trust", "--format", "SavedModel", "--output", str(target)]) == 0
    found = lav(str(target))[""]
    expected = points.validated(-1)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_nothing_is_overwritten(points: Any, tmp_path: Path, capsys: Any) -> None:
    """A folder that is not empty is refused and stays unchanged."""
    (tmp_path / "file").write_text("mine")
    words = ["export", str(points.folder), "--trust", "--format", "keras", "--output"]
    assert main([*words, str(tmp_path)]) == 2
    assert "already exists" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_scenario_that_builds_another_model_now(train: Any, dense_source: str, tmp_path: Path, capsys: Any) -> None:
    """A missing layer or one of another size is named, and one with another computation is detected."""
    run = train(dense_source, "--trainer.epochs", "1")
    file = run.folder.parent / "scenario.py"
    words = ["export", str(run.folder), "--trust", "--format", "keras", "--output", str(tmp_path / "out")]
    for old, new, message in (
        ("layers.Dense(16", "layers.Dense(17", "dense/kernel of shape (12, 16), but the scenario now builds it"),
        (
            "layers.BatchNormalization()(hidden)",
            "hidden",
            "has weights for batch_normalization/beta, which the scenario's",
        ),
        ('activation="relu"', 'activation="tanh"', "now builds a model with other outputs than"),
    ):
        file.write_text(dense_source.replace(old, new))
        assert main(words) != 0
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Name a format: --format"),
        (["--format", "kears"], "did you mean Keras?"),
        (["--format", "keras", "--format.opset", "3"], "--format.opset belongs to ONNX, but the format is Keras"),
        (["--format", "keras", "--format.level", "3"], "There is no option --format.level"),
        (["--format", "keras", "--model.graph", "x"], "There is no option --model.graph"),
    ],
)
def test_invalid_options(points: Any, capsys: Any, words: list[str], message: str) -> None:
    """The format is required, and only its options exist."""
    assert main(["export", str(points.folder), "--trust", *words]) == 2
    assert message in capsys.readouterr().err


CONVOLUTION = '''
"""A convolution, whose weights fit images of any size."""

import numpy as np

from aipcore.params import field, group, params
from aipcore.scenario import DataParams, Scenario, ScenarioParams


@params
class Data(DataParams):
    size: int = field(6, help="Height and width.")
    validates: bool = field(True, help="Whether there is validation data.")


@params
class Params(ScenarioParams):
    data: Data = group(Data, help="Images.")


class Edges(Scenario):
    """Learns a convolution."""

    params_class = Params
    defaults = {"trainer.epochs": 1, "trainer.jit_compile": "off"}

    def train_data(self):
        x = np.random.default_rng(0).normal(size=(20, self.params.data.size, self.params.data.size, 1))
        return x.astype("float32"), x.astype("float32")

    def val_data(self):
        return self.train_data() if self.params.data.validates else None

    def build(self, inputs):
        from keras import layers

        return layers.Conv2D(1, 3, padding="same")(inputs)

    def losses(self):
        return "mse"
'''


def test_other_input_size(train: Any, tmp_path: Path, capsys: Any) -> None:
    """The inputs are those of the data with the changed parameters; without data, changes are refused."""
    import tensorflow as tf

    run = train(CONVOLUTION)
    words = ["export", str(run.folder / "export"), "--trust", "--format", "savedmodel", "--data.size", "9"]
    assert main([*words, "--output", str(tmp_path / "large")]) == 0
    serve = tf.saved_model.load(str(tmp_path / "large")).signatures["serving_default"]
    assert serve.structured_input_signature[1]["inputs"].shape.as_list() == [None, 9, 9, 1]
    assert json.loads((tmp_path / "large" / "aip.json").read_text())["signature"]["inputs"][""]["shape"] == [9, 9, 1]
    capsys.readouterr()
    assert main([*words, "--data.validates", "no", "--output", str(tmp_path / "none")]) == 2
    assert "--data.size may change the model's inputs. They are read from the validation" in capsys.readouterr().err
