"""The examples of adapted preprocessing train like plain Keras, and their models take raw strings."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aipcore.cli.main import main
from aipcore.training.trainer import Trainer

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
PARAMS = {
    "trainer.epochs": 3, "trainer.random_seed": 1, "trainer.jit_compile": "off", "trainer.tune": "off",
    "train.shuffle": False, "learning_rate": "Constant", "learning_rate.lr": 0.02,
}  # fmt: skip

SERVE = """
import json, sys
import tensorflow as tf

model = tf.saved_model.load(sys.argv[1])
serve = model.signatures["serving_default"]
specs = serve.structured_input_signature[1]
answer = serve(**{name: tf.constant(values, specs[name].dtype) for name, values in json.load(sys.stdin).items()})
assert not {"aipcore", "aip_plugins"} & {name.partition(".")[0] for name in sys.modules}
print(answer["outputs"].numpy().tolist())
"""


def as_in_keras(name: str, data: Any) -> tuple[Any, Any]:
    """Return the preprocessing of an example, adapted to the data, and a model for it, in Keras alone."""
    import keras
    import tensorflow as tf

    layers = keras.layers
    if name == "text_classification":
        words = layers.TextVectorization(max_tokens=1000, output_sequence_length=12)
        words.adapt(data[0])
        model = [layers.Embedding(1000, 16), layers.GlobalAveragePooling1D(), layers.Dense(1, activation="sigmoid")]
        return lambda texts: words(tf.constant(texts)), model
    space = keras.utils.FeatureSpace
    columns = {"age": space.float_discretized(num_bins=8), "bill": space.float_normalized()}
    columns |= {"plan": space.string_categorical(), "region": space.integer_categorical()}
    features = space(columns, crosses=[space.cross(("plan", "region"), crossing_dim=16)], output_mode="concat")
    features.adapt(tf.data.Dataset.from_tensor_slices(data[0]).batch(500))
    return features, [layers.Dense(16, activation="relu"), layers.Dense(1, activation="sigmoid")]


@pytest.fixture(scope="module", params=["text_classification", "table_features"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the folder and the history of a run, Keras' history, the raw validation inputs, and Keras' outputs."""
    import keras

    folder = tmp_path_factory.mktemp("runs") / request.param
    trainer = Trainer.from_scenario(str(EXAMPLES / f"{request.param}.py"), PARAMS, folder, quiet=True)
    weights = trainer.model.get_weights()
    train, val = trainer.scenario.train_data(), trainer.scenario.val_data()
    found = trainer.fit().history
    preprocess, layers = as_in_keras(request.param, train)
    model = keras.Sequential([keras.Input(preprocess(train[0]).shape[1:]), *layers])
    model.set_weights(weights)
    model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy", metrics=["accuracy"])
    data = {"validation_data": (preprocess(val[0]), val[1]), "batch_size": 16, "shuffle": False, "verbose": 0}
    expected = model.fit(preprocess(train[0]), train[1], epochs=3, **data).history
    outputs = model.predict(preprocess(val[0]), verbose=0)
    named = val[0] if isinstance(val[0], dict) else {"inputs": val[0]}
    return folder, found, expected, named, outputs


def test_losses_are_those_of_keras(run: Any) -> None:
    """The losses and metrics of all epochs are those of `Model.fit` on the output of the adapted layers."""
    _, found, expected, _, _ = run
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        np.testing.assert_allclose([epoch[name] for epoch in found], expected[name], rtol=1e-5, err_msg=name)
    assert found[-1]["val_accuracy"] > 0.9


def test_raw_values_everywhere(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`aip lav`, `aip predict` and the model of `aip export` have the loss and outputs of Keras, from raw values."""
    import tensorflow as tf

    folder, _, expected, raw, outputs = run
    capsys.readouterr()
    assert main(["lav", str(folder / "export"), "--trust"]) == 0
    scores = dict(line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert float(scores["loss"]) == pytest.approx(expected["val_loss"][-1], rel=1e-5)
    table = tmp_path / "outputs.csv"
    assert main(["predict", str(folder / "export"), "--trust", "--output", str(table)]) == 0
    rows = list(csv.reader(table.read_text().splitlines()))[1:]
    np.testing.assert_allclose([float(value) for _, value in rows], outputs[:, 0], atol=1e-5)
    copy = tmp_path / "copy"
    assert main(["export", str(folder / "checkpoint"), "--trust", "--format", "SavedModel", "--output", str(copy)]) == 0
    served = tf.saved_model.load(str(copy)).signatures["serving_default"]
    answer = served(**{name: tf.constant(values) for name, values in raw.items()})
    np.testing.assert_allclose(answer["outputs"], outputs, atol=1e-5)
    capsys.readouterr()


def test_served_without_aip(run: Any) -> None:
    """A process with TensorFlow alone answers raw strings and columns."""
    folder, _, _, raw, outputs = run
    values = {name: np.asarray(column).tolist() for name, column in raw.items()}
    done = subprocess.run(
        [sys.executable, "-I", "-c", SERVE, str(folder / "best")],
        input=json.dumps(values), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert np.shape(json.loads(done.stdout.splitlines()[-1])) == outputs.shape
