"""ONNX and LiteRT: models of each kind have the same outputs in a process without aip and TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from aipcore.errors import FormatError

READERS = {
    "ONNX": """
import sys, numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1] + "/model.onnx", providers=["CPUExecutionProvider"])
names = [each.name for each in session.get_outputs()]
def run(inputs):
    return dict(zip(names, session.run(names, inputs)))
""",
    "LiteRT": """
import sys, numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1] + "/model.tflite")
def run(inputs):
    return interpreter.get_signature_runner("serving_default")(**inputs)
""",
}
READ = """
with np.load(sys.argv[2]) as stored:
    answers = run({name: stored[name] for name in stored.files})
np.savez(sys.argv[3], **answers)
assert not {"aipcore", "aip_plugins", "tensorflow", "keras"} & set(sys.modules)
"""


def answers_elsewhere(name: str, folder: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the outputs of a new process with the format's own runtime."""
    np.savez(folder.parent / "inputs.npz", **{key or "inputs": value for key, value in inputs.items()})
    words = [sys.executable, "-W", "error", "-c", READERS[name] + READ]
    files = [str(folder), str(folder.parent / "inputs.npz"), str(folder.parent / "outputs.npz")]
    subprocess.run([*words, *files], check=True, timeout=120)
    with np.load(folder.parent / "outputs.npz") as stored:
        return {key: stored[key] for key in stored.files}


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("ONNX", "mlp", {}),
        ("ONNX", "cnn", {}),
        ("ONNX", "recurrent", {}),
        ("LiteRT", "mlp", {}),
        ("LiteRT", "cnn", {}),
        ("LiteRT", "recurrent", {"batch_size": 3}),
    ],
)
def test_models_in_a_fresh_process(
    model: Any, form: Any, write: Any, batches: Any, name: str, kind: str, options: dict[str, Any]
) -> None:
    """Names are those of the signature, and outputs those of the Keras model."""
    graph = model(kind)
    folder = write(graph, {name: form(name, **options)})
    inputs = batches(graph)[1]
    found = answers_elsewhere(name, folder, inputs)
    expected = graph(inputs, training=False)
    assert set(found) == {key or "outputs" for key in expected}
    for key, value in expected.items():
        np.testing.assert_allclose(found[key or "outputs"], value, rtol=1e-4, atol=1e-5)


def test_recurrent_layers_need_a_batch_size(model: Any, form: Any, write: Any, tmp_path: Path, refused: Any) -> None:
    """LiteRT needs a fixed batch size for recurrent layers; the error gives the option, and no file is left."""
    with refused(FormatError):
        write(model("recurrent"), {"LiteRT": form("LiteRT")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("batch_size", [1, 2])
def test_any_batch_through_a_file_of_one_size(model: Any, form: Any, write: Any, batches: Any, batch_size: int) -> None:
    """`load` splits batches for a file of one batch size, and pads the last one."""
    graph = model("recurrent")
    made = form("LiteRT", batch_size=batch_size)
    run = made.read(write(graph, {"LiteRT": made}))
    for inputs in batches(graph):
        np.testing.assert_allclose(run(inputs)["text"], graph(inputs, training=False)["text"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("quantize", "least"), [("float16", 1.6), ("dynamic", 2.5)])
def test_quantized_files(graph_of: Any, form: Any, write: Any, quantize: str, least: float) -> None:
    """Quantized files are smaller, and their outputs are within a separate tolerance."""
    inputs = keras.Input((32,), name="inputs")
    graph = graph_of(inputs, keras.layers.Dense(8)(keras.layers.Dense(256, activation="tanh")(inputs)))
    sizes = [
        (write(graph, {"LiteRT": form("LiteRT", quantize=each)}) / "model.tflite").stat().st_size
        for each in ("none", quantize)
    ]
    assert sizes[0] > least * sizes[1]
    strict = form("LiteRT", quantize=quantize)
    assert strict.tolerance > form("LiteRT").tolerance


class Gamma(keras.layers.Layer):
    """A layer of the logarithm of the gamma function, which ONNX lacks."""

    def call(self, inputs: Any) -> Any:
        return tf.math.lgamma(tf.abs(inputs) + 1.0)


class Read(keras.layers.Layer):
    """A layer that decodes a path of CTC, which LiteRT lacks."""

    def call(self, inputs: Any) -> Any:
        steps = tf.transpose(tf.tile(inputs[:, None, :], [1, 4, 1]), [1, 0, 2])
        lengths = tf.fill(tf.shape(steps)[1:2], 4)
        return tf.sparse.to_dense(tf.nn.ctc_greedy_decoder(steps, lengths)[0][0])


class Squeezed(keras.layers.Layer):
    """A layer of the lengths of texts without white space, which ONNX cannot remove."""

    def call(self, inputs: Any) -> Any:
        return tf.cast(tf.strings.length(tf.strings.regex_replace(inputs, " ", "")), tf.float32)

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor(inputs.shape, dtype="float32")


def test_ops_on_strings_that_onnx_has_not(graph_of: Any, form: Any, write: Any) -> None:
    """The error of a model with texts names the ops, too."""
    inputs = keras.Input((1,), dtype="string", name="inputs")
    with pytest.raises(FormatError, match=r"^ONNX \(opset 18\) does not support the op.* StaticRegexReplace"):
        write(graph_of(inputs, Squeezed()(inputs)), {"ONNX": form("ONNX")})


@pytest.mark.parametrize(("name", "layer", "op"), [("ONNX", Gamma, "Lgamma"), ("LiteRT", Read, "CTCGreedyDecoder")])
def test_ops_that_a_format_has_not(
    graph_of: Any, form: Any, write: Any, tmp_path: Path, capfd: Any, name: str, layer: type[Any], op: str
) -> None:
    """The error names the op, the converters print nothing, and the other formats are written."""
    inputs = keras.Input((3,), name="inputs")
    graph = graph_of(inputs, layer()(keras.layers.Dense(2)(inputs)))
    with pytest.raises(FormatError) as caught:
        write(graph, {"SavedModel": form("SavedModel"), name: form(name), "Keras": form("Keras")})
    opset = " (opset 18)" if name == "ONNX" else ""
    assert str(caught.value) == (
        f"{name}{opset} does not support the op {op} of TensorFlow. Leave out {name}, or move it to post_processors()."
    )
    folder = tmp_path / "model"
    assert {"saved_model.pb", "model.keras"} <= {path.name for path in folder.iterdir()}
    assert not [path for path in folder.iterdir() if path.suffix in (".onnx", ".tflite")]
    assert json.loads((folder / "aip.json").read_text())["formats"] == ["SavedModel", "Keras"]
    said = capfd.readouterr()
    assert op not in said.out + said.err
