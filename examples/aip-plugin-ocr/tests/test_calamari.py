"""Models of Calamari 2: the description, the order of the weights, the preparation of lines, and an imported model."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

import numpy as np
import pytest
from aip_plugin_ocr.calamari.checkpoint import ordered_weights, read_model
from aip_plugin_ocr.calamari.command import command
from aip_plugin_ocr.calamari.params import CalamariParams
from aip_plugin_ocr.calamari.preparation import prepared, resized
from click.testing import CliRunner

from aipcore.errors import UsageError

ALPHABET = " ab"
FILTERS, UNITS, HEIGHT = 2, 3, 16


def layer(kind: str, **values: Any) -> dict[str, Any]:
    """Return a layer as Calamari records it."""
    return {"name": None, **values, "__cls__": f"calamari_ocr.ocr.model.layers:{kind}LayerParams"}


def xy(x: int, y: int) -> dict[str, int]:
    """Return a size as Calamari records it."""
    return {"x": x, "y": y}


CONV = layer(
    "Conv2D",
    name="conv2d_0",
    filters=FILTERS,
    kernel_size=xy(3, 3),
    strides=xy(1, 1),
    padding="same",
    activation="relu",
)
POOL = layer("MaxPool2D", name="maxpool2d_0", pool_size=xy(2, 4), strides=xy(-1, -1), padding="same")
LSTM = layer("BiLSTM", name="lstm_0", hidden_nodes=UNITS, merge_mode="concat")
DROPOUT = layer("Dropout", rate=0.5)


def processor(kind: str, **values: Any) -> dict[str, Any]:
    """Return a processor as Calamari records it."""
    return {**values, "__cls__": f"calamari_ocr.ocr.dataset:{kind}ProcessorParams"}


def record(**changes: Any) -> dict[str, Any]:
    """Return the description of a small model. Changes are for the model or the data."""
    model = {"layers": [CONV, POOL, LSTM, DROPOUT], "classes": len(ALPHABET) + 1, "temperature": -1}
    data = {
        "input_channels": 1,
        "line_height": HEIGHT,
        "codec": {"charset": ["", *ALPHABET]},
        "pre_proc": {
            "processors": [
                processor("CenterNormalizer", extra_params=[4, 1.0, 0.3], line_height=HEIGHT),
                processor("FinalPreparation", pad=16),
                processor("BidiText", bidi_direction="L"),
                processor("StripText"),
                processor("TextNormalizer", unicode_normalization="NFC"),
            ]
        },
    }
    for name, value in changes.items():
        (model if name in model else data)[name] = value
    return {"scenario": {"model": model, "data": data}}


def arrays() -> dict[str, Any]:
    """Return random weights under the names of Calamari's graph."""
    generator = np.random.default_rng(1)
    features = FILTERS * HEIGHT // 4
    shapes = {"conv2d_0/conv/kernel": (3, 3, 1, FILTERS), "conv2d_0/conv/bias": (FILTERS,)}
    for direction in ("forward", "backward"):
        cell = f"lstm_0/bidirectional/{direction}_lstm/lstm_cell"
        shapes[f"{cell}/kernel"] = (features, 4 * UNITS)
        shapes[f"{cell}/recurrent_kernel"] = (UNITS, 4 * UNITS)
        shapes[f"{cell}/bias"] = (4 * UNITS,)
    shapes |= {"logits/kernel": (2 * UNITS, len(ALPHABET) + 1), "logits/bias": (len(ALPHABET) + 1,)}
    return {
        f"root/CalamariGraph/{name}": generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()
    }


def write(folder: Any, description: Any = None) -> Any:
    """Write a model as an h5 file of Keras 2 with its description; return the path to name."""
    import h5py

    path = folder / "best.ckpt"
    (folder / "best.ckpt.json").write_text(json.dumps(description or record()))
    with h5py.File(f"{path}.h5", "w") as file:
        file.attrs["layer_names"] = ["root"]
        group = file.create_group("root")
        group.attrs["weight_names"] = [f"{name}:0" for name in arrays()]
        for name, array in arrays().items():
            group[f"{name}:0"] = array
    return path


def test_description(tmp_path: Any) -> None:
    """The network, the alphabet, the preparation and the rules for texts are those of the file."""
    for name in ("best.ckpt", "best.ckpt.json", "best.ckpt.h5"):
        write(tmp_path)
        found = read_model(tmp_path / name)
        assert found.weights == tmp_path / "best.ckpt.h5"
    assert found.layers == "conv=2:3x3,pool=2x4,lstm=3,dropout=0.5"
    assert (found.data["alphabet"], found.data["height"], found.data["text_direction"]) == (ALPHABET, HEIGHT, "ltr")
    calamari = {"name": "Calamari", "height": HEIGHT, "padding": 16}
    assert found.data["image_processors"] == [{**calamari, "extent": 4, "smoothing": 1, "center_smoothing": 0.3}]
    assert found.rules == {"form": "NFC", "white_space": True}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"layers": [{**CONV, "activation": "elu"}]}, "the layer conv2d_0 (Conv2D) cannot be imported."),
        ({"layers": [layer("DilatedBlock")]}, "the layer dilatedblock_0 (DilatedBlock) cannot be imported."),
        ({"layers": [{**LSTM, "hidden_nodes": "3"}]}, "no valid scenario.model.layers.0.hidden_nodes."),
        ({"codec": {"charset": ["a", "b"]}}, "the alphabet does not begin with the blank."),
        ({"codec": {"charset": ["", "a", "ch"]}}, "'ch' is not one code point in the alphabet"),
        ({"codec": {"charset": ["", "a", "a"]}}, "characters occur twice in the alphabet"),
        ({"input_channels": 3}, "the model reads colored lines"),
        ({"pre_proc": {"processors": []}}, "the lines were not prepared with Calamari's CenterNormalizer"),
        ({"codec": []}, "no valid scenario.data.codec."),
    ],
)
def test_refused_descriptions(tmp_path: Any, changes: dict[str, Any], sentence: str) -> None:
    """A description that is damaged, or of a model that aip cannot build, is refused with its part."""
    with pytest.raises(UsageError) as caught:
        read_model(write(tmp_path, record(**changes)))
    assert sentence in str(caught.value)


def test_refused_files(tmp_path: Any) -> None:
    """Missing and broken files are refused by name, before anything is written."""
    path = tmp_path / "best.ckpt"
    for text, sentence in (
        (None, "cannot be read (No such file or directory)"),
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        (json.dumps(record()), "The weights"),
    ):
        if text is not None:
            (tmp_path / "best.ckpt.json").write_text(text)
        with pytest.raises(UsageError) as caught:
            read_model(path)
        assert sentence in str(caught.value)
    write(tmp_path)
    (tmp_path / "best.ckpt.json").write_text("[]")
    with pytest.raises(UsageError, match=r"has no valid scenario\. It does not describe a model of Calamari 2\."):
        read_model(path)
    result = CliRunner().invoke(command, [str(path), str(tmp_path)])
    assert isinstance(result.exception, UsageError)
    assert "already exists" in str(result.exception)


def test_weights(tmp_path: Any) -> None:
    """The blank becomes the first class, a temperature scales the logits, and a missing variable is named."""
    model = read_model(write(tmp_path, record(temperature=2)))
    stored = arrays()
    found = ordered_weights(stored, model)
    assert [each.shape for each in found] == [each.shape for each in stored.values()]
    for one, other in zip(found[:-2], list(stored.values())[:-2], strict=True):
        np.testing.assert_array_equal(one, other)
    kernel = stored["root/CalamariGraph/logits/kernel"]
    np.testing.assert_array_equal(found[-2], np.concatenate([kernel[:, -1:], kernel[:, :-1]], axis=1) / 2)
    for changes, sentence in (
        (
            {"layers": [{**CONV, "filters": 10**6}]},
            "conv2d_0 is conv=2:3x3, but conv=1000000:3x3 in its .json",
        ),
        ({"layers": [{**LSTM, "hidden_nodes": 30}]}, "lstm_0 is lstm=3, but lstm=30 in its .json"),
        ({"codec": {"charset": ["", *"abcdef"]}}, "logits is dense=4, but dense=7 in its .json"),
    ):
        with pytest.raises(UsageError) as caught:
            ordered_weights(stored, read_model(write(tmp_path, record(**changes))))
        assert sentence in str(caught.value)
    stored.pop("root/CalamariGraph/lstm_0/bidirectional/backward_lstm/lstm_cell/bias")
    with pytest.raises(UsageError, match="has 0 variables lstm_0/backward_lstm/lstm_cell/bias instead of one"):
        ordered_weights(stored, model)


def test_scaling() -> None:
    """A reduced image has the mean of the covered areas, an enlarged one is interpolated between centers of pixels."""
    image = np.random.default_rng(2).integers(0, 256, (6, 9)).astype(np.uint8)
    halves = image.astype(float).reshape(2, 3, 3, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(resized(image, 2, 3), np.rint(halves))
    # Two thirds of a pixel and a third of the next.
    line = np.array([[30, 60, 90]], np.uint8)
    np.testing.assert_array_equal(resized(line, 1, 2), [[40, 80]])
    column = np.array([[0], [100]], np.uint8)
    np.testing.assert_array_equal(resized(column, 4, 1), [[0], [25], [75], [100]])


def test_preparation() -> None:
    """The band of a bar is known; a bar at another height looks the same; blank images have no ink."""
    params = CalamariParams(height=22, padding=5)
    bar = np.full((40, 200), 200, np.uint8)
    bar[10:21] = 50
    # The mean distance from the center 15 is 30 / 11, so the band has 2 * int(1 + 120 / 11) rows.
    found = prepared(bar, params)
    assert found.dtype == np.uint8
    ink = int((1 - np.float32(50) / np.float32(200)) * 255)
    expected = np.pad(np.where(bar[4:26] < 200, 255 - ink, 255), ((0, 0), (5, 5)), constant_values=255)
    np.testing.assert_array_equal(found, expected)
    both = np.concatenate([bar, bar, np.roll(bar, 10, axis=0), np.roll(bar, 10, axis=0)], axis=1)
    columns = prepared(both, params).T[5:-5]
    np.testing.assert_array_equal(columns[0], columns[-1])
    assert not np.array_equal(both[:, 0], both[:, -1])
    blank = prepared(np.full((20, 40), 180, np.uint8), params)
    assert blank.shape == (22, 44 + 10)
    assert (blank == 255).all()
    assert (prepared(np.zeros((20, 40), np.uint8), params) >= 0).all()


@pytest.mark.slow
def test_import(tmp_path: Any) -> None:
    """An imported model has the logits of the same layers in Keras, and reads lines."""
    pytest.importorskip("aip_plugin_ocr.network")
    import keras
    import tensorflow as tf

    from aipcore import Predictor

    output = tmp_path / "imported"
    result = CliRunner().invoke(command, [str(write(tmp_path)), str(output)], catch_exceptions=False)
    assert "Imported" in result.output
    stored = list(arrays().values())
    image = keras.Input((None, HEIGHT, 1))
    x = keras.layers.Conv2D(FILTERS, 3, padding="same", activation="relu")(image)
    x = keras.layers.MaxPooling2D((2, 4), padding="same")(x)
    x = keras.layers.Reshape((-1, FILTERS * HEIGHT // 4))(x)
    x = keras.layers.Bidirectional(keras.layers.LSTM(UNITS, return_sequences=True))(x)
    reference = keras.Model(image, keras.layers.Dense(len(ALPHABET) + 1)(x))
    reference.set_weights(stored)
    served = tf.saved_model.load(str(output / "export")).signatures["serving_default"]
    lines = [np.random.default_rng(seed).integers(0, 256, (30, 60 + 20 * seed)).astype(np.uint8) for seed in range(3)]
    for line, prediction in zip(lines, Predictor.load(output).predict(lines), strict=True):
        pixels = prepared(line, CalamariParams(height=HEIGHT))
        image = (255 - pixels.T[None, :, :, None].astype(np.float32)) / 255
        expected = np.roll(np.asarray(reference(image))[0], 1, axis=-1)
        found = served(image=tf.constant(image), width=tf.constant([[image.shape[1]]], tf.int32))["text"][0]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        path = [number for number, _ in groupby(expected.argmax(axis=-1)) if number]
        assert prediction.outputs["text"] == "".join(ALPHABET[number - 1] for number in path)
