"""Warm start from foreign files: subclassed models and hostile files."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from aipcore.errors import ParamsError
from aipcore.scenario.paths import variables_by_path
from aipcore.training.warmstart.apply import warm_start
from aipcore.training.warmstart.matching import WarmStart
from aipcore.training.warmstart.params import WarmstartParams

# Keras' save functions, which create the files of these tests, use an outdated NumPy protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


class Stack(keras.layers.Layer):
    """A layer with a weight and inner layers, one of them in a list, to which TensorFlow gives the same name."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.many = [keras.layers.Dense(6), keras.layers.Dense(6, name="last")]
        self.first = keras.layers.Dense(6)

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(6,), name="scale", initializer="random_normal")

    def call(self, inputs: Any) -> Any:
        outputs = self.first(inputs)
        for layer in self.many:
            outputs = layer(outputs)
        return outputs * self.scale


class Own(keras.Model):
    """A subclassed model with a weight outside of all layers."""

    def __init__(self) -> None:
        super().__init__(name="own")
        self.body = Stack(name="body")
        self.end = keras.layers.Dense(4)

    def build(self, shape: Any) -> None:
        self.offset = self.add_weight(shape=(4,), name="offset", initializer="random_normal")

    def call(self, inputs: Any) -> Any:
        return self.end(self.body(inputs)) + self.offset


def around(layer: Any) -> Any:
    """Return a functional model of one layer or model."""
    inputs = keras.Input((6,))
    return keras.Model(inputs, layer(inputs))


def load(model: Any, path: Path, **params: Any) -> WarmStart:
    """Return a completed warm start."""
    done = warm_start(model, WarmstartParams(model=path, **params))
    assert done is not None
    return done


def assert_same(model: Any, other: Any) -> None:
    """Assert the same bits in the same order."""
    for ours, theirs in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)


def test_variables_of_one_name(tmp_path: Path, refused: Any) -> None:
    """Three exported kernels of one name are not matched by their order, but rules can match them."""
    keras.utils.clear_session(free_memory=False)
    trained = around(Stack(name="stack"))
    trained.export(tmp_path / "saved", verbose=False)
    keras.utils.clear_session(free_memory=False)
    fresh = around(Stack(name="stack"))
    with refused(ParamsError):
        load(fresh, tmp_path / "saved")
    rules = tuple(f"variables/{at}->{path}" for at, path in enumerate(variables_by_path(trained)) if at)
    load(fresh, tmp_path / "saved", rename=rules)
    assert_same(fresh, trained)


def test_variables_of_one_name_in_another_number(tmp_path: Path, refused: Any) -> None:
    """If the model has fewer variables of a name, none is guessed."""
    around(Stack(name="stack")).export(tmp_path / "saved", verbose=False)
    fresh = Stack(name="stack")
    fresh.many.pop()
    with refused(ParamsError):
        load(around(fresh), tmp_path / "saved")


@pytest.mark.parametrize("form", ["own.weights.h5", "own.keras", "saved"])
def test_a_model_that_is_a_class(form: str, tmp_path: Path) -> None:
    """The model's name starts all paths, and its direct variables are found too."""
    trained = Own()
    trained(np.zeros((1, 6)))
    if form == "saved":
        trained.export(tmp_path / form, verbose=False)
    elif form == "own.keras":
        trained.save(tmp_path / form)
    else:
        trained.save_weights(tmp_path / form)
    fresh = around(Own())
    # Without explicit names, Keras continues to number layers from the first model.
    load(fresh, tmp_path / form)
    assert_same(fresh, trained)


def head() -> Any:
    """Return a model of one named layer."""
    return around(keras.layers.Dense(4, name="head"))


def test_a_truncated_saved_model(tmp_path: Path, refused: Any) -> None:
    """Truncated values are an error that names the folder."""
    head().export(tmp_path / "saved", verbose=False)
    data = next((tmp_path / "saved" / "variables").glob("variables.data-*"))
    data.write_bytes(data.read_bytes()[:40])
    with refused(ParamsError):
        load(head(), tmp_path / "saved")


def test_a_flipped_bit_in_a_keras_file(tmp_path: Path, refused: Any) -> None:
    """The archive's checksum is verified."""
    trained, path = head(), tmp_path / "head.keras"
    trained.save(path)
    content = bytearray(path.read_bytes())
    content[content.find(trained.weights[0].numpy().tobytes())] ^= 1
    path.write_bytes(content)
    with refused(ParamsError):
        load(head(), path)


def test_a_compressed_keras_file(tmp_path: Path, refused: Any) -> None:
    """A small file cannot fill the memory: compression, which Keras never uses, is refused."""
    head().save(tmp_path / "head.keras")
    packed = io.BytesIO()
    with zipfile.ZipFile(tmp_path / "head.keras") as archive, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as to:
        for name in archive.namelist():
            to.writestr(name, archive.read(name))
    (tmp_path / "head.keras").write_bytes(packed.getvalue())
    with refused(ParamsError):
        load(head(), tmp_path / "head.keras")


def test_virtual_data_does_not_reach_outside(tmp_path: Path, refused: Any) -> None:
    """A virtual dataset, which refers to another file, is not read."""
    for name in ("secret", "given"):
        head().save_weights(tmp_path / f"{name}.weights.h5")
    layout = h5py.VirtualLayout(shape=(6, 4), dtype="f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "secret.weights.h5"), "layers/dense/vars/0", shape=(6, 4))
    with h5py.File(tmp_path / "given.weights.h5", "a") as file:
        del file["layers/dense/vars/0"]
        file["layers/dense/vars"].create_virtual_dataset("0", layout)
    with refused(ParamsError):
        load(head(), tmp_path / "given.weights.h5")


def test_numbers_of_another_kind(tmp_path: Path, refused: Any) -> None:
    """Integer values are refused instead of converted, and the model stays unchanged."""
    module = tf.Module()
    module.kernel = tf.Variable(tf.ones((6, 4), tf.int32), name="head/kernel")
    module.bias = tf.Variable(tf.ones(4), name="head/bias")
    tf.saved_model.save(module, tmp_path / "saved")
    model = head()
    with refused(ParamsError):
        load(model, tmp_path / "saved")
    assert not model.weights[1].numpy().any()
    assert load(model, tmp_path / "saved", exclude="head/kernel").rows[1].status == "loaded"
