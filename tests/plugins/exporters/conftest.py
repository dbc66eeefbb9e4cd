"""Small models of each kind, and the folders that formats are written to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from aipcore.data.sample import ColumnSpec
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Choice, from_dict
from aipcore.scenario.model import Graph
from aipcore.training.export.formats import Format, make_format
from aipcore.training.export.verify import BATCHES
from aipcore.training.export.writer import ModelWriter


def _mlp() -> Any:
    inputs = keras.Input((8, 8), name="inputs")
    hidden = layers.Dense(16, activation="relu")(layers.Flatten()(inputs))
    return inputs, layers.Dense(10)(hidden)


def _cnn() -> Any:
    inputs = {"image": keras.Input((12, 12, 1), name="image"), "gain": keras.Input((1,), name="gain")}
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", activation="relu")(inputs["image"]))
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D()(x) + x[:, ::2, ::2])
    return inputs, {"label": layers.Dense(3, activation="softmax")(x * inputs["gain"]), "features": x}


def _recurrent() -> Any:
    inputs = {"line": keras.Input((None, 5), name="line")}
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(inputs["line"])
    return inputs, {"text": layers.Dense(6)(x)}


MODELS = {"mlp": _mlp, "cnn": _cnn, "recurrent": _recurrent}


def make_graph(inputs: Any, outputs: Any) -> Graph:
    """Return a model with the specs of its inputs."""
    named = inputs if isinstance(inputs, dict) else {"": inputs}
    return Graph(
        model=keras.Model(inputs, outputs),
        inputs={name: ColumnSpec(shape=tuple(each.shape[1:]), dtype=each.dtype) for name, each in named.items()},
        outputs=list(outputs) if isinstance(outputs, dict) else [""],
    )


def batches_of(graph: Graph) -> list[dict[str, Any]]:
    """Return random inputs of 1 and of 3 samples, with 9 steps on axes of any length."""
    generator = np.random.default_rng(1)
    return [
        {
            name: generator.normal(size=(size, *(9 if axis is None else axis for axis in spec.shape))).astype("float32")
            for name, spec in graph.inputs.items()
        }
        for size in BATCHES
    ]


@pytest.fixture
def model() -> Callable[[str], Graph]:
    """Return a function that builds `mlp`, `cnn` or `recurrent`, with seeded weights."""

    def model(name: str) -> Graph:
        keras.utils.set_random_seed(4)
        return make_graph(*MODELS[name]())

    return model


@pytest.fixture
def form() -> Callable[..., Format]:
    """Return a function that gives an exporter plugin's format, with its options."""

    def form(name: str, **options: Any) -> Format:
        plugins = get_plugin_manager()
        return make_format(Choice(name, from_dict(plugins.params_class("exporter", name), options)), plugins)

    return form


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a model in formats by name, compared with the model, to `tmp_path/model`."""

    def write(graph: Graph, formats: dict[str, Format]) -> Path:
        writer = ModelWriter(graph, formats, {}, batches=lambda: batches_of(graph))
        writer.write(tmp_path / "model", compare=True)
        return tmp_path / "model"

    return write


@pytest.fixture
def batches() -> Callable[[Graph], list[dict[str, Any]]]:
    """Return the inputs that `write` compares."""
    return batches_of


@pytest.fixture
def graph_of() -> Callable[[Any, Any], Graph]:
    """Return a function that makes a graph of symbolic inputs and outputs."""
    return make_graph
