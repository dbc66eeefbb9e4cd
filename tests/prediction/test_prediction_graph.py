"""A scenario whose exported model is another than the trained one: what is run where, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from aipcore.cli.main import main
from aipcore.errors import ScenarioError
from aipcore.prediction import Predictor
from aipcore.scenario import Scenario
from aipcore.scenario.graph import build_graph_of, prediction_graph
from aipcore.scenario.objective import Objective

HELPED = '''
"""Two outputs of which one only helps, and an input that only the trained model takes."""

import numpy as np

from aipcore.scenario import Evaluator, Scenario


class Mean(Evaluator):
    def __init__(self):
        self.values = []

    def update(self, targets, outputs, meta):
        assert list(outputs) == ["sum"]
        self.values += outputs["sum"][:, 0].tolist()

    def result(self):
        return {"mean": float(np.mean(self.values))}


class Helped(Scenario):
    defaults = {"trainer.epochs": 2, "trainer.lav_every_n": 1, "trainer.jit_compile": "off", "trainer.random_seed": 2,
                "trainer.calc_ema": 0.9}
    monitor = ("min", "hint_error")

    def train_data(self):
        x = np.random.default_rng(1).normal(size=(64, 3)).astype("float32")
        return {"x": x, "teacher": x[:, :1]}, {"sum": x.sum(axis=1, keepdims=True), "hint": x[:, :1]}

    def val_data(self):
        return self.train_data()

    def build(self, inputs):
        from keras import layers

        hidden = layers.Dense(4, activation="tanh", name="hidden")(inputs["x"])
        told = layers.Dense(4, name="told")(inputs["teacher"])
        return {"sum": layers.Dense(1, name="sum")(hidden), "hint": layers.Dense(1, name="hint")(hidden + told)}

    def build_prediction(self, model):
        import keras

        return keras.Model({"x": model.input["x"]}, {"sum": model.output["sum"]})

    def losses(self):
        return {"sum": "mse", "hint": "mse"}

    def metrics(self):
        import keras

        return {"sum": [keras.metrics.MeanAbsoluteError(name="error")],
                "hint": [keras.metrics.MeanAbsoluteError(name="error")]}

    def evaluator(self):
        return Mean()
'''


@pytest.fixture(scope="module")
def helped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A run, and the values of its last epoch."""
    folder = tmp_path_factory.mktemp("helped")
    (folder / "helped.py").write_text(HELPED)
    words = ["--trainer.output_dir", str(folder / "run"), "--json-log", str(folder / "log.jsonl"), "--quiet"]
    assert main(["train", str(folder / "helped.py"), *words]) == 0
    events = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return folder / "run", [event["logs"] for event in events if event["event"] == "epoch"][-1]


def test_training_and_validation_run_the_trained_model(helped: tuple[Path, dict[str, float]]) -> None:
    """Both outputs have losses and metrics; the extended validation has those of the one that prediction gives."""
    logs = helped[1]
    for part in ("", "val_"):
        assert logs[f"{part}loss"] == pytest.approx(logs[f"{part}sum_loss"] + logs[f"{part}hint_loss"], rel=1e-5)
        assert f"{part}hint_error" in logs
    assert {name for name in logs if name.startswith("lav_")} == {"lav_loss", "lav_sum_error", "lav_mean"}
    assert logs["lav_loss"] == pytest.approx(logs["val_sum_loss"], rel=1e-5)
    assert logs["lav_sum_error"] == pytest.approx(logs["val_sum_error"], rel=1e-5)


def test_exported_model_has_only_what_prediction_needs(helped: tuple[Path, dict[str, float]]) -> None:
    """It takes one input, gives one output, and holds no weight of the others."""
    path = helped[0] / "export"
    served = tf.saved_model.load(str(path)).signatures["serving_default"]
    assert set(served.structured_input_signature[1]) == {"x"}
    assert set(served.structured_outputs) == {"sum"}
    about = json.loads((path / "aip.json").read_text())
    assert set(about["variables"]) == {"hidden/kernel", "hidden/bias", "sum/kernel", "sum/bias"}
    assert list(about["signature"]["inputs"]) == ["x", "teacher"]
    assert list(about["prediction_signature"]["inputs"]) == ["x"]


@pytest.mark.parametrize("part", ["export", "checkpoint"])
def test_lav_equals_that_of_training(helped: tuple[Path, dict[str, float]], part: str, tmp_path: Path) -> None:
    """For the exported model, the checkpoint, and what was stored of their answers."""
    run, logs = helped
    files = [tmp_path / name for name in ("lav.json", "again.json")]
    dump = str(tmp_path / "dump.npz")
    assert main(["lav", str(run / part), "--trust", "--json", str(files[0]), "--dump", dump]) == 0
    assert main(["evaluate", dump, "--trust", "--json", str(files[1])]) == 0
    for file in files:
        scores = json.loads(file.read_text())
        values = scores["lists"][0]["values"] if "lists" in scores else scores
        for name in ("loss", "sum_error", "mean"):
            assert values[name] == pytest.approx(logs[f"lav_{name}"], rel=1e-5)


# Keras asks TensorFlow for arrays in a way that NumPy 2 will no longer take.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_prediction_needs_no_teacher(helped: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    """Samples without the other input, and the validation data with it, are answered alike, also after an export."""
    run = helped[0]
    x = np.random.default_rng(1).normal(size=(64, 3)).astype(np.float32)
    predictor = Predictor.load(str(run), trust=True)
    alone = predictor.predict_raw({"x": x})["sum"]
    stored = [each.raw["sum"] for each in predictor.predict_data()]
    np.testing.assert_allclose(alone, stored, rtol=1e-5, atol=1e-6)
    words = ["--trust", "--format", "Keras", "--output", str(tmp_path / "k")]
    assert main(["export", str(run / "checkpoint"), *words]) == 0
    import keras

    model = keras.saving.load_model(next((tmp_path / "k").glob("*.keras")))
    final = Predictor.load(str(run / "export"), trust=True).predict_raw({"x": x})["sum"]
    np.testing.assert_allclose(np.asarray(model({"x": x})["sum"]), final, rtol=1e-5, atol=1e-6)


def test_warm_start_from_the_exported_model(helped: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    """What it lacks is missing, as of any other source; the checkpoint has everything."""
    run = helped[0]
    command = ["train", str(run.parent / "helped.py"), "--quiet", "--trainer.epochs", "1", "--trainer.output_dir"]
    assert main([*command, str(tmp_path / "a"), "--warmstart.model", str(run / "best")]) == 2
    partial = ["--warmstart.allow_partial", "True"]
    assert main([*command, str(tmp_path / "b"), "--warmstart.model", str(run / "best"), *partial]) == 0
    assert main([*command, str(tmp_path / "c"), "--warmstart.model", str(run / "checkpoint")]) == 0


class Bare(Scenario):
    """One input, one output, and losses of its own."""

    made: Any = None

    def build(self, inputs: Any) -> Any:
        """Two layers."""
        from keras import layers

        return layers.Dense(1, name="last")(layers.Dense(2, name="first")(inputs))

    def build_prediction(self, model: Any) -> Any:
        """What a test says."""
        return self.made(model) if self.made else None

    def loss_values(self, inputs: Any, targets: Any, outputs: Any) -> Any:
        """One loss."""
        return {"own": outputs[""][:, 0] - targets[""]}


def graph_of(scenario: Scenario) -> Any:
    """The trained graph, for three numbers."""
    from aipcore.data.specs import ColumnSpec

    return build_graph_of(scenario, {"": ColumnSpec(shape=(3,), dtype="float32")})


def _new_weights(model: Any) -> Any:
    import keras

    return keras.Model(model.input, keras.layers.Dense(1, name="new")(model.output))


def _another_input(model: Any) -> Any:
    import keras

    other = keras.Input((3,), name="other")
    return keras.Model({"other": other}, model.get_layer("last")(model.get_layer("first")(other)))


def _list(model: Any) -> Any:
    import keras

    return keras.Model([model.input], [model.output, model.get_layer("first").output])


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda model: model.output, "returned KerasTensor: return a keras.Model, or None"),
        (_new_weights, "has the variable new/kernel, which is not trained: take its layers from"),
        (_another_input, "takes the input other, but the data has one array: make it with"),
        (_list, "has a list of inputs or outputs: make it with one tensor or a mapping"),
    ],
)
def test_what_is_no_model_of_the_trained_layers(made: Any, message: str) -> None:
    """One sentence says what is wrong with it."""
    scenario = Bare(None)
    scenario.made = made
    with pytest.raises(ScenarioError, match=message):
        prediction_graph(scenario, graph_of(scenario))


def test_own_losses_need_all_outputs() -> None:
    """Loss values of the author's own are left out where an output is another; they are there where all are."""
    scenario = Bare(None)
    graph = graph_of(scenario)
    assert prediction_graph(scenario, graph) is graph
    tensors = {"": tf.zeros((2, 3))}, {"": tf.zeros(2)}
    everything = Objective(scenario, [""], [""], given=[""])
    assert (
        everything.computable(["own"])
        == list(everything(*tensors, graph(tensors[0], training=False), {}, 2.0))
        == ["own"]
    )
    nothing = Objective(scenario, [""], [""], given=["answer"])
    assert nothing.computable(["own"]) == list(nothing(*tensors, {"answer": tf.zeros(2)}, {}, 2.0)) == []
