"""Exported models are loaded and compared: deviations are named, and models that deviate are not kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import keras
import numpy as np
import pytest
import tensorflow as tf

from aipcore.data.sample import ColumnSpec
from aipcore.errors import FormatError, TrainingError
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Choice
from aipcore.scenario.model import Graph, build_graph_of
from aipcore.training.export import verify
from aipcore.training.export.formats import Format, make_format
from aipcore.training.export.saved_model import ServedModule
from aipcore.training.export.verify import some_batches
from aipcore.training.export.writer import ModelWriter

Change = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture(scope="module")
def saved_model() -> Format:
    """Return the format that every run writes."""
    plugins = get_plugin_manager()
    return make_format(Choice("SavedModel", plugins.params_class("exporter", "SavedModel")()), plugins)


def changed(saved_model: Format, change: Change) -> Format:
    """A format whose reader changes the outputs."""
    assert saved_model.read is not None
    read = saved_model.read

    def read_changed(folder: Path) -> Any:
        run = read(folder)
        return lambda inputs: change(dict(run(inputs)))

    return Format(write=saved_model.write, read=read_changed)


@pytest.fixture
def graph(blobs_class: Any, make_trainer: Any) -> Graph:
    """Return a model of one input and one output."""
    trainer = make_trainer(blobs_class)
    return build_graph_of(trainer.scenario, trainer.engine.graph.inputs)


def inputs() -> list[dict[str, Any]]:
    """Return batches of 1 and of 3 samples."""
    return [{"": np.random.default_rng(size).normal(size=(size, 12)).astype(np.float32)} for size in (1, 3)]


def shifted(answers: dict[str, Any]) -> dict[str, Any]:
    """Shift one number of the third sample by 0.5."""
    values = answers["outputs"].copy()
    values[2:3, 1] += 0.5
    return {"outputs": values}


@pytest.mark.parametrize(
    "change",
    [
        shifted,
        lambda answers: {"outputs": answers["outputs"] * np.nan},
        lambda answers: {"outputs": answers["outputs"][:, :2]},
        lambda answers: {"logits": answers["outputs"]},
        lambda answers: 1 / 0,
    ],
)
def test_what_deviates_is_not_left_in_place(
    graph: Graph, saved_model: Format, tmp_path: Path, change: Any, refused: Any
) -> None:
    """Without a comparison, a deviating model is written. With one, the error names it and the previous model stays."""
    writer = ModelWriter(graph, {"Odd": changed(saved_model, change)}, {}, batches=inputs)
    writer.write(tmp_path / "model")
    before = {path: path.read_bytes() for path in (tmp_path / "model").rglob("*") if path.is_file()}
    graph.model.trainable_variables[0].assign(graph.model.trainable_variables[0] * 2)
    with refused(FormatError):
        writer.write(tmp_path / "model", compare=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_further_signature_that_deviates(graph: Graph, saved_model: Format, tmp_path: Path, refused: Any) -> None:
    """A deviating additional signature is named even if the default signature is right, and no model is left."""
    half = keras.Model(graph.model.input, graph.model.output * 0.5)
    further = {"half": Graph(model=half, inputs=graph.inputs, outputs=[""])}

    def write(exportable: Any, folder: Path) -> None:
        module = exportable.served()
        tf.saved_model.save(module, str(folder), {"serving_default": module.serve, "half": module.serve})

    odd = Format(write=write, read=saved_model.read)
    with refused(FormatError):
        ModelWriter(graph, {"SavedModel": odd}, {}, further=further, batches=inputs).write(tmp_path / "m", compare=True)
    assert not (tmp_path / "m").exists()
    writer = ModelWriter(graph, {"SavedModel": saved_model}, {}, further=further, batches=inputs)
    assert writer.write(tmp_path / "m", compare=True) < 1e-5


def test_numbers_that_are_not_finite_may_be_the_model_s_own(
    graph: Graph, saved_model: Format, tmp_path: Path, refused: Any
) -> None:
    """NaN and infinity equal themselves and do not hide other differences."""
    graph.model.layers[-1].bias.assign([np.inf, np.nan, 0.0, 0.0])
    same = ModelWriter(graph, {"Same": changed(saved_model, dict)}, {}, batches=inputs)
    assert same.write(tmp_path / "same", compare=True) < 1e-5

    def off(answers: dict[str, Any]) -> dict[str, Any]:
        return {"outputs": answers["outputs"] + np.float32([0, 0, 0, 1])}

    with refused(FormatError):
        ModelWriter(graph, {"Odd": changed(saved_model, off)}, {}, batches=inputs).write(tmp_path / "o", compare=True)


def test_low_precision(blobs_class: Any, make_trainer: Any, saved_model: Format, tmp_path: Path) -> None:
    """Outputs of bfloat16 are compared without a warning from NumPy."""
    inputs_of_model = make_trainer(blobs_class).engine.graph.inputs
    source = keras.Input((12,), name="inputs")
    model = keras.Model(source, keras.layers.Dense(4, dtype="bfloat16")(source))
    low = Graph(model=model, inputs=inputs_of_model, outputs=[""])
    assert ModelWriter(low, {"SavedModel": saved_model}, {}, batches=inputs).write(tmp_path / "m", compare=True) < 5e-2


def test_a_failing_exporter_is_a_sentence(graph: Graph, saved_model: Format, tmp_path: Path, refused: Any) -> None:
    """After any exception of an exporter, its files are removed and the other formats stay."""

    def fail(exportable: Any, folder: Path) -> None:
        (folder / "half").mkdir()
        (folder / "half" / "file").write_text("x")
        raise KeyError("layer")

    writer = ModelWriter(graph, {"SavedModel": saved_model, "Odd": Format(write=fail)}, {}, batches=inputs)
    with pytest.raises(FormatError, match=r"cannot be written as Odd \(KeyError: 'layer'\)\. Leave Odd out"):
        writer.write(tmp_path / "model")
    assert (tmp_path / "model" / "saved_model.pb").is_file()
    assert not (tmp_path / "model" / "half").exists()
    with refused(TrainingError):
        writer.check()


def test_batches_repeat_samples(blobs_class: Any, make_trainer: Any) -> None:
    """With only two samples, a batch of three repeats the first one."""
    data = make_trainer(type("Two", (blobs_class,), {"samples": 2}), "--train.batch_size", "2").data.train
    one, three = some_batches(data)
    assert one[""].shape == (1, 12)
    np.testing.assert_array_equal(three[""][[0, 1]], three[""][[2, 1]])


def test_a_served_model_needs_no_gpu() -> None:
    """Recurrent layers are traced without cuDNN and are not changed."""
    seen: list[Any] = []

    class Watched(keras.layers.LSTM):
        def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
            seen.append(self.use_cudnn)
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)

    inputs = keras.Input((4, 2), name="inputs")
    model = keras.Model(inputs, Watched(3)(inputs))
    graph = Graph(model=model, inputs={"": ColumnSpec(shape=(4, 2), dtype="float32")}, outputs=[""])
    seen.clear()
    module = ServedModule(graph)
    assert seen == [False]
    assert model.layers[1].use_cudnn == "auto"
    x = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    np.testing.assert_allclose(module.serve(inputs=tf.constant(x))["outputs"], model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("expected", "found", "deviation"),
    [
        ([0.5, -0.25], [0.5, 0.0], 0.25),
        ([100.0, 1.0], [99.0, 1.0], 0.01),
        ([np.nan, np.inf, 1.0], [np.nan, np.inf, 1.0], 0.0),
        ([np.inf, 1.0], [1.0, 1.0], np.inf),
        ([1, 2, 3, 4], [1, 2, 3, 5], 0.25),
        ([1.0], [1.0, 1.0], np.inf),
        ([], [], 0.0),
    ],
)
def test_deviation(expected: list[float], found: list[float], deviation: float) -> None:
    """Numbers deviate relative to the largest, at least 1; other values by their share; shapes infinitely."""
    assert verify.deviation(expected, found) == pytest.approx(deviation)


@pytest.mark.parametrize(
    ("precision", "kind", "tolerance"),
    [
        ("float32", "CPU", 1e-4),
        ("float32", "GPU", 5e-3),
        ("mixed_float16", "CPU", 5e-3),
        ("mixed_bfloat16", "GPU", 5e-2),
    ],
)
def test_tolerance_by_device(precision: str, kind: str, tolerance: float) -> None:
    """On a GPU, float32 may be computed with the precision of float16."""
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1, dtype=precision)(inputs))
    assert verify.tolerance_for(cast(Graph, SimpleNamespace(model=model)), 1e-4, kind) == tolerance


def test_nan_instead_of_a_number() -> None:
    """NaN in place of a number is never within a tolerance."""
    assert not verify.deviation([1.0], [np.nan]) <= 1.0
