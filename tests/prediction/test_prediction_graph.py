"""A scenario whose exported model differs from the trained one: the graph used in each place, and refused graphs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from aipcore.cli.main import main
from aipcore.errors import ScenarioError
from aipcore.prediction import Predictor
from aipcore.scenario import Scenario
from aipcore.scenario.losses import Objective
from aipcore.scenario.model import build_graph_of, further_graphs, prediction_graph

HELPED = '''
"""Two outputs of which one only helps, and an input that only the trained model takes."""

import numpy as np

from aipcore.params import field, group, params
from aipcore.scenario import DataParams, Evaluator, ModelParams, Scenario, ScenarioParams


@params
class Data(DataParams):
    samples: int = field(64, help="How many.")


@params
class Model(ModelParams):
    units: int = field(4, help="Units of the hidden layer.")
    scale: float = field(1.0, help="What the exported sum is multiplied by.")
    dropout: float = field(0.0, help="Fraction of hidden units that training drops.")


@params
class Params(ScenarioParams):
    data: Data = group(Data, help="Data.")
    model: Model = group(Model, help="Model.")


class Mean(Evaluator):
    def __init__(self):
        self.values = []

    def update(self, targets, outputs, meta):
        assert list(outputs) == ["sum"]
        self.values += outputs["sum"][:, 0].tolist()

    def result(self):
        return {"mean": float(np.mean(self.values))}


class Helped(Scenario):
    params_class = Params
    defaults = {"trainer.epochs": 2, "trainer.lav_every_n": 1, "trainer.jit_compile": "off", "trainer.random_seed": 2,
                "trainer.calc_ema": 0.9}
    monitor = ("min", "hint_error")

    def train_data(self):
        x = np.random.default_rng(1).normal(size=(self.params.data.samples, 3)).astype("float32")
        return {"x": x, "teacher": x[:, :1]}, {"sum": x.sum(axis=1, keepdims=True), "hint": x[:, :1]}

    def val_data(self):
        return self.train_data()

    def build(self, inputs):
        from keras import layers

        units = self.params.model.units
        hidden = layers.Dense(units, activation="tanh", name="hidden")(inputs["x"])
        if self.params.model.dropout:
            hidden = layers.Dropout(self.params.model.dropout)(hidden)
        told = layers.Dense(units, name="told")(inputs["teacher"])
        return {"sum": layers.Dense(1, name="sum")(hidden), "hint": layers.Dense(1, name="hint")(hidden + told)}

    def build_prediction(self, model):
        import keras

        return keras.Model({"x": model.input["x"]}, {"sum": self.params.model.scale * model.output["sum"]})

    def export_graphs(self, model):
        import keras

        code = keras.Input((self.params.model.units,), name="code")
        return {
            "encoder": keras.Model({"x": model.input["x"]}, {"code": model.get_layer("hidden").output}),
            "decoder": keras.Model(code, model.get_layer("sum")(code)),
            "teacher": keras.Model({"teacher": model.input["teacher"]}, model.get_layer("told").output),
        }

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
    """Return a run, and the values of its last epoch."""
    folder = tmp_path_factory.mktemp("helped")
    (folder / "helped.py").write_text(HELPED)
    words = ["--trainer.output_dir", str(folder / "run"), "--json-log", str(folder / "log.jsonl"), "--quiet"]
    assert main(["train", str(folder / "helped.py"), *words]) == 0
    events = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return folder / "run", [event["logs"] for event in events if event["event"] == "epoch"][-1]


def test_training_and_validation_run_the_trained_model(helped: tuple[Path, dict[str, float]]) -> None:
    """Both outputs have losses and metrics in training; LAV has those of the prediction's output."""
    logs = helped[1]
    for part in ("", "val_"):
        assert logs[f"{part}loss"] == pytest.approx(logs[f"{part}sum_loss"] + logs[f"{part}hint_loss"], rel=1e-5)
        assert f"{part}hint_error" in logs
    assert {name for name in logs if name.startswith("lav_")} == {"lav_loss", "lav_sum_error", "lav_mean"}
    assert logs["lav_loss"] == pytest.approx(logs["val_sum_loss"], rel=1e-5)
    assert logs["lav_sum_error"] == pytest.approx(logs["val_sum_error"], rel=1e-5)


def test_exported_model_is_minimal(helped: tuple[Path, dict[str, float]]) -> None:
    """The exported model has one input, one output, and only weights that it or a further graph uses."""
    path = helped[0] / "export"
    served = tf.saved_model.load(str(path)).signatures["serving_default"]
    assert set(served.structured_input_signature[1]) == {"x"}
    assert set(served.structured_outputs) == {"sum"}
    about = json.loads((path / "aip.json").read_text())
    assert {name.partition("/")[0] for name in about["variables"]} == {"hidden", "sum", "told"}
    assert list(about["signature"]["inputs"]) == ["x", "teacher"]
    assert list(about["prediction_signature"]["inputs"]) == ["x"]


@pytest.mark.parametrize("part", ["export", "checkpoint"])
def test_lav_equals_that_of_training(helped: tuple[Path, dict[str, float]], part: str, tmp_path: Path) -> None:
    """LAV of the exported model, the checkpoint and the stored predictions equals that of training."""
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


def weights_of(path: Path) -> dict[str, Any]:
    """Return the weights of a SavedModel by the names in its record, read by TensorFlow."""
    reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    names = json.loads((path / "aip.json").read_text())["variables"]
    return {name: reader.get_tensor(f"state/{n}/.ATTRIBUTES/VARIABLE_VALUE") for n, name in enumerate(names)}


def coded(x: Any, weights: dict[str, Any]) -> Any:
    """Return the expected output of the encoder."""
    return np.tanh(x @ weights["hidden/kernel"] + weights["hidden/bias"])


def test_further_graphs_are_signatures(helped: tuple[Path, dict[str, float]]) -> None:
    """Further graphs give NumPy's results for the weights, also in `best`, where only the weights are rewritten."""
    run = helped[0]
    x = np.random.default_rng(3).normal(size=(5, 3)).astype(np.float32)
    for part in ("best", "export"):
        weights = weights_of(run / part)
        code = coded(x, weights)
        expected = {
            "encoder": ({"x": x}, "code", code),
            "decoder": ({"inputs": code}, "outputs", code @ weights["sum/kernel"] + weights["sum/bias"]),
            "teacher": ({"teacher": x[:, :1]}, "outputs", x[:, :1] @ weights["told/kernel"] + weights["told/bias"]),
        }
        model = tf.saved_model.load(str(run / part))
        assert set(model.signatures) == {"serving_default", *expected}
        about = json.loads((run / part / "aip.json").read_text())
        assert about["graphs"]["encoder"] == {"inputs": {"x": {"shape": [3], "dtype": "float32"}}, "outputs": ["code"]}
        for name, (given, output, right) in expected.items():
            answer = model.signatures[name](**{key: tf.constant(value) for key, value in given.items()})
            np.testing.assert_allclose(answer[output], right, rtol=1e-5, atol=1e-6)


ALONE = """
import json, sys
import numpy as np
import tensorflow as tf

encoder = tf.saved_model.load(sys.argv[1]).signatures["encoder"]
code = encoder(x=tf.constant(np.float32([[1, 2, 3]])))["code"]
assert not any(name.split(".")[0] in ("aipcore", "aip_plugins") for name in sys.modules)
print(json.dumps(code.numpy().tolist()))
"""


@pytest.mark.slow
def test_further_graphs_need_no_aip(helped: tuple[Path, dict[str, float]]) -> None:
    """A process with only TensorFlow loads a further signature."""
    words = [sys.executable, "-c", ALONE, str(helped[0] / "export")]
    found = subprocess.run(words, capture_output=True, text=True, check=True, cwd=helped[0], timeout=120)
    right = coded(np.float32([[1, 2, 3]]), weights_of(helped[0] / "export"))
    np.testing.assert_allclose(json.loads(found.stdout), right, rtol=1e-5, atol=1e-6)


def test_export_of_one_graph(helped: tuple[Path, dict[str, float]], tmp_path: Path, capsys: Any) -> None:
    """`--graph` writes one graph in any format, compared on validation samples if it accepts them."""
    run = helped[0]
    x = np.random.default_rng(3).normal(size=(5, 3)).astype(np.float32)
    weights = weights_of(run / "export")
    code = coded(x, weights)
    words = ["export", str(run / "export"), "--trust", "--format", "keras", "--output", str(tmp_path / "k")]
    assert main([*words, "--graph", "encoder"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"Exported the graph encoder of {run / 'export'} as Keras to {tmp_path / 'k'}. ")
    assert said.endswith("on validation samples.\n")
    import keras

    model = keras.saving.load_model(tmp_path / "k" / "model.keras")
    np.testing.assert_allclose(np.asarray(model({"x": x})["code"]), code, rtol=1e-5, atol=1e-6)
    out = tmp_path / "saved"
    words = ["export", str(run / "checkpoint"), "--trust", "--format", "savedmodel", "--output", str(out)]
    assert main([*words, "--graph", "decoder"]) == 0
    assert "on random inputs, because the validation data has others." in capsys.readouterr().out
    loaded = tf.saved_model.load(str(out))
    assert set(loaded.signatures) == {"serving_default"}
    answer = loaded.signatures["serving_default"](inputs=tf.constant(code))["outputs"]
    np.testing.assert_allclose(answer, code @ weights["sum/kernel"] + weights["sum/bias"], rtol=1e-5, atol=1e-6)
    assert main(["lav", str(out), "--trust"]) == 2
    assert "contains only the export graph decoder, which aip does not apply" in capsys.readouterr().err


def test_export_with_changed_parameters(helped: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    """The graph is built with the parameters and has the weights of the run; the record has the parameters too."""
    run = helped[0]
    x = np.random.default_rng(3).normal(size=(5, 3)).astype(np.float32)
    before = Predictor.load(str(run / "export"), trust=True).predict_raw({"x": x})["sum"]
    words = ["export", str(run / "export"), "--trust", "--format", "savedmodel", "--output", str(tmp_path / "m")]
    assert main([*words, "--model.scale", "-2", "--data.samples", "50", "--model.dropout", "0.5"]) == 0
    predictor = Predictor.load(str(tmp_path / "m"), trust=True)
    np.testing.assert_allclose(predictor.predict_raw({"x": x})["sum"], -2 * before, rtol=1e-5, atol=1e-6)
    assert predictor.scenario.params.model.scale == -2
    assert len(list(predictor.predict_data())) == 50
    assert set(tf.saved_model.load(str(tmp_path / "m")).signatures) == {
        "serving_default", "encoder", "decoder", "teacher",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--graph", "encode"], "Helped has no export graph 'encode'. Its graphs are serving_default, encoder, "),
        (["--graph", "../x"], "--graph ../x is not the name of a graph. "),
        (["--model.units", "5"], "(3, 4), but the scenario now builds it with shape (3, 5). Change only parameters "),
        (["--model.unit", "5"], "There is no option --model.unit; did you mean --model.units?"),
        (["--val.batch_size", "5"], "There is no option --val.batch_size"),
    ],
)
def test_invalid_exports(
    helped: tuple[Path, dict[str, float]], tmp_path: Path, capsys: Any, words: list[str], message: str
) -> None:
    """Unknown graphs, parameters that change the weights and unsupported parameters are refused."""
    given = ["export", str(helped[0]), "--trust", "--format", "savedmodel", "--output", str(tmp_path / "out")]
    assert main([*given, *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_prediction_needs_no_teacher(helped: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    """Samples without the other input, and validation data with it, have the same outputs, also after an export."""
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
    """Weights that the exported model lacks are missing, as for any source; the checkpoint has all."""
    run = helped[0]
    command = ["train", str(run.parent / "helped.py"), "--quiet", "--trainer.epochs", "1", "--trainer.output_dir"]
    assert main([*command, str(tmp_path / "a"), "--warmstart.model", str(run / "best")]) == 2
    partial = ["--warmstart.allow_partial", "True"]
    assert main([*command, str(tmp_path / "b"), "--warmstart.model", str(run / "best"), *partial]) == 0
    assert main([*command, str(tmp_path / "c"), "--warmstart.model", str(run / "checkpoint")]) == 0


class Bare(Scenario):
    """A scenario with one input, one output, and custom losses."""

    made: Any = None

    def build(self, inputs: Any) -> Any:
        """Apply two layers."""
        from keras import layers

        return layers.Dense(1, name="last")(layers.Dense(2, name="first")(inputs))

    def build_prediction(self, model: Any) -> Any:
        """Return the model that a test sets."""
        return self.made(model) if self.made else None

    def loss_values(self, inputs: Any, targets: Any, outputs: Any) -> Any:
        """Return one loss."""
        return {"own": outputs[""][:, 0] - targets[""]}


def graph_of(scenario: Scenario) -> Any:
    """Return the trained graph, for three numbers."""
    from aipcore.data.sample import ColumnSpec

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
    "made",
    [
        lambda model: model.output,
        _new_weights,
        _another_input,
        _list,
    ],
)
def test_what_is_no_model_of_the_trained_layers(made: Any, refused: Any) -> None:
    """One sentence names the fault of the model."""
    scenario = Bare(None)
    scenario.made = made
    with refused(ScenarioError):
        prediction_graph(scenario, graph_of(scenario))


def _foreign_input(model: Any) -> Any:
    import keras

    x = keras.Input((3,))
    return keras.Model(x, model.get_layer("first")(x))


def _renamed(model: Any) -> Any:
    import keras

    return keras.Model({"x": model.input}, model.output)


def _own(model: Any) -> Any:
    import keras

    class Own(keras.Model):  # type: ignore[misc]
        """A model without symbolic inputs."""

    return Own()


@pytest.mark.parametrize(
    "made",
    [
        lambda model: model,
        lambda model: {"two words": model},
        lambda model: {"_x": model},
        lambda model: {"serving_default": model},
        lambda model: {"a": model.output},
        lambda model: {"a": _new_weights(model)},
        lambda model: {"a": _list(model)},
        lambda model: {"a": _foreign_input(model)},
        lambda model: {"a": _renamed(model)},
        lambda model: {"a": _own(model)},
    ],
)
@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")
def test_what_is_no_further_graph(made: Any, refused: Any) -> None:
    """One sentence names the fault of a name or its model."""
    scenario = Bare(None)
    graph = graph_of(scenario)
    scenario.export_graphs = made  # type: ignore[method-assign]
    with refused(ScenarioError):
        further_graphs(scenario, graph)


def test_own_losses_need_all_outputs() -> None:
    """Custom loss values are omitted if the prediction has other outputs, and kept if it has all."""
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
