"""Formats that aip writes but does not load: in training, as arguments, and without their packages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aipcore.cli.main import main
from aipcore.scenario.record import MODEL_FORMAT

GAMMA = '''
"""A model with an op that ONNX has not."""

import numpy as np

from aipcore.scenario import Scenario


class Gammas(Scenario):
    """Learns a function."""

    defaults = {"trainer.epochs": 2, "trainer.jit_compile": "off", "trainer.random_seed": 1}

    def train_data(self):
        x = np.linspace(0, 1, 64, dtype=np.float32)[:, None]
        return x, x

    val_data = train_data

    def build(self, inputs):
        import keras
        import tensorflow as tf

        class Gamma(keras.layers.Layer):
            def call(self, inputs):
                return tf.math.lgamma(inputs + 1.0)

        return keras.layers.Dense(1)(Gamma()(keras.layers.Dense(4, activation="relu")(inputs)))

    def losses(self):
        import keras

        return keras.losses.MeanSquaredError()
'''

PLUGIN = """
from aipcore.plugin import ExporterParams, ExporterRecord, hookimpl, params


@params
class OddParams(ExporterParams):
    "None."


@hookimpl
def aip_exporters():
    return [
        ExporterRecord(
            name="Odd", summary="Odd.", params=OddParams, build="odd:build",
            packages=("json", "no_such_package", "nor_this"), install="odd[all]",
        )
    ]


def build(params):
    return lambda exportable, folder: None
"""


@pytest.mark.slow
def test_training_writes_all_formats(train: Any, dense_source: str, tmp_path: Path, capsys: Any) -> None:
    """`best` and `export` have each format, and the error for an ONNX model names the models to use instead."""
    run = train(dense_source, "--trainer.epochs", "1", "--export.formats", "onnx", "litert", "keras")
    for name in ("best", "export"):
        files = {path.name for path in (run.folder / name).iterdir()}
        assert {"saved_model.pb", "model.onnx", "model.tflite", "model.keras", "aip.json"} <= files
    out = tmp_path / "onnx"
    capsys.readouterr()
    assert main(["export", str(run.folder), "--trust", "--format", "onnx", "--output", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"Exported {run.folder / 'best'} as ONNX to {out}. The exported model's outputs ")
    assert said.out.endswith("on validation samples.\n")
    assert {path.name for path in out.iterdir()} == {"model.onnx", "aip.json"}
    for words in (["lav"], ["predict"], ["export", "--format", "keras"]):
        assert main([words[0], str(out), "--trust", *words[1:]]) == 2
        assert capsys.readouterr().err == (
            f"error: The model {out} contains only ONNX, which aip does not apply. Use the model that "
            "it was exported from: best, export or checkpoint of a run.\n"
        )


def test_a_format_that_cannot_express_the_model(tmp_path: Path, capsys: Any) -> None:
    """An unsupported model is found before the first epoch; without checks, the run fails at its end."""
    (tmp_path / "gammas.py").write_text(GAMMA)
    out = tmp_path / "out"
    words = ["train", str(tmp_path / "gammas.py"), "--export.formats", "onnx", "--trainer.output_dir", str(out)]
    assert main([*words, "--quiet"]) == 1
    sentence = "ONNX (opset 18) does not support the op Lgamma of TensorFlow. Leave out ONNX, or move it to "
    assert capsys.readouterr().err.startswith(f"error: {sentence}")
    assert not out.exists()
    assert main([*words, "--trainer.skip_sanity_check", "true"]) == 1
    said = capsys.readouterr()
    assert f"error: A format is missing in best and export. Everything else is complete. {sentence}" in said.err
    assert "Trained 2 epochs" in said.out
    assert len(list((out / "checkpoint").glob("step-*"))) == 2
    for name in ("best", "export"):
        assert (out / name / "saved_model.pb").is_file()
        assert json.loads((out / name / "aip.json").read_text())["formats"] == ["SavedModel"]
    assert main(["lav", str(out), "--trust"]) == 0


def test_missing_packages(fork_aip: Any, install: Any, tmp_path: Path) -> None:
    """Missing packages are named with the command that installs them, before TensorFlow is imported."""
    install("odd", PLUGIN)
    result = fork_aip("train", "tutorial", "--export.formats", "odd", AIP_LOG_LEVEL="debug")
    assert result.returncode == 2
    assert result.stderr == (
        "error: --export.formats Odd needs the packages json, no_such_package and nor_this, but no_such_package "
        "and nor_this are not installed. Run pip install 'odd[all]'.\n"
    )
    model = tmp_path / "model"
    (model / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "variables/variables.index"):
        (model / name).touch()
    scenario = {"kind": "plugin", "name": "tutorial", "reference": "tutorial"}
    record = {"format": MODEL_FORMAT, "scenario": scenario, "params": {}, "signature": {}}
    (model / "aip.json").write_text(json.dumps(record))
    result = fork_aip("export", str(model), "--format", "odd")
    assert result.stderr.startswith("error: --format Odd needs the packages json, no_such_package and nor_this")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_nothing_but_the_plan_is_printed(fork_aip: Any, tmp_path: Path) -> None:
    """Converter and runtime print nothing in the terminal, in a separate process."""
    words = ["--trainer.epochs", "2", "--export.formats", "onnx", "litert", "keras", "--trainer.output_dir", "out"]
    result = fork_aip("train", "tutorial", *words, timeout=300)
    assert result.returncode == 0
    assert result.stderr == ""
    first, *_, last = result.stdout.splitlines()
    assert first.startswith("scenario ")
    assert last.startswith("peak memory ")
    exported = fork_aip("export", "out", "--format", "litert", "--format.quantize", "dynamic", timeout=300)
    assert (exported.returncode, exported.stderr, exported.stdout.count("\n")) == (0, "", 1)


@pytest.mark.slow
def test_the_kit_skips_missing_packages(fork_aip: Any, install: Any) -> None:
    """An exporter whose packages are not installed does not fail its checks."""
    install("odd", PLUGIN)
    result = fork_aip("plugins", "check", "odd")
    assert "it needs the packages json, no_such_package and nor_this" in result.stdout
    assert result.returncode == 0, result.stdout
