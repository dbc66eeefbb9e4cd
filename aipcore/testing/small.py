"""Small scenarios and short runs for the checks of plugins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from aipcore.data.adapters import as_dataset
from aipcore.hooks.manager import PluginManager
from aipcore.params import Layer, from_dict
from aipcore.scenario import Scenario
from aipcore.scenario.loader import loaded_class
from aipcore.scenario.model import Graph, build_graph
from aipcore.scenario.params import ScenarioParams
from aipcore.training.callbacks.context import RunContext
from aipcore.training.request import make_request
from aipcore.training.setup import RunComponents
from aipcore.training.trainer import Trainer

FEATURES, CLASSES = 6, 3


def _blobs(samples: int, seed: int) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, samples).astype(np.int32)
    centres = np.random.default_rng(99).normal(size=(CLASSES, FEATURES))
    return (centres[labels] + generator.normal(size=(samples, FEATURES))).astype(np.float32), labels


class Blobs(Scenario):
    """Noisy points around three centres, with one input, one output, dropout and batch normalization."""

    monitor = ("max", "accuracy")

    def train_data(self) -> Any:
        """Return 48 points, float32 [48, 6], and their classes."""
        return _blobs(48, 1)

    def val_data(self) -> Any:
        """Return 16 other points and their classes."""
        return _blobs(16, 2)

    def build(self, inputs: Any) -> Any:
        """Return logits for points."""
        hidden = keras.layers.Dense(8, activation="relu")(inputs)
        hidden = keras.layers.Dropout(0.2)(keras.layers.BatchNormalization()(hidden))
        return keras.layers.Dense(CLASSES)(hidden)

    def losses(self) -> Any:
        """Return the cross-entropy."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self) -> Any:
        """Return the accuracy."""
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]


class Images(Blobs):
    """The points of `Blobs` as images of 2 by 3 pixels."""

    def train_data(self) -> Any:
        """Return 48 images, float32 [48, 2, 3], and their classes."""
        points, labels = super().train_data()
        return points.reshape(-1, 2, 3), labels

    def val_data(self) -> Any:
        """Return 16 other images and their classes."""
        points, labels = super().val_data()
        return points.reshape(-1, 2, 3), labels

    def build(self, inputs: Any) -> Any:
        """Return logits for images."""
        return super().build(keras.layers.Flatten()(inputs))


class Pairs(Scenario):
    """Two named inputs, one of integers, and two named outputs."""

    def train_data(self) -> Any:
        """Return points and words with two targets."""
        points, labels = _blobs(16, 3)
        words = np.random.default_rng(4).integers(0, 7, (16, 2)).astype(np.int32)
        return {"point": points, "words": words}, {"label": labels, "sum": points.sum(axis=1, keepdims=True)}

    def build(self, inputs: Any) -> Any:
        """Return both outputs for both inputs."""
        words = keras.layers.Flatten()(keras.layers.Embedding(7, 3)(inputs["words"]))
        hidden = keras.layers.Concatenate()([inputs["point"], words])
        return {"label": keras.layers.Dense(CLASSES)(hidden), "sum": keras.layers.Dense(1)(hidden)}


def small_graph(cls: type[Scenario]) -> Graph:
    """Return the model of one of these scenarios, with seeded weights."""
    keras.utils.set_random_seed(5)
    scenario = cls(from_dict(ScenarioParams, {}))
    return build_graph(scenario, as_dataset(scenario.train_data(), f"{cls.__name__}.train_data()"))


def batch_of(cls: type[Scenario], samples: int) -> dict[str, Any]:
    """Return the inputs of the first samples by name, in the form of a serving signature."""
    inputs, _ = cls(from_dict(ScenarioParams, {})).train_data()
    named = inputs if isinstance(inputs, Mapping) else {"inputs": inputs}
    return {name: column[:samples] for name, column in named.items()}


def make_trainer(
    manager: PluginManager,
    *,
    callbacks: Mapping[str, Callable[[RunContext], Any]] | None = None,
    folder: Path | None = None,
    scenario: type[Scenario] = Blobs,
    **values: Any,
) -> Trainer:
    """Return a run with Keras' Adam at a constant learning rate.

    Args:
        manager: plugin manager for parameter defaults.
        callbacks: names of the callbacks.
        folder: output folder, or None.
        scenario: scenario to train.
        values: values of `TrainerParams`.
    """
    layer = {
        "trainer.random_seed": 11,
        # A few eager steps are faster than compilation, and equivalent for callbacks.
        "trainer.force_eager": True,
        "trainer.export_best": False,
        "trainer.export_final": False,
        "trainer.skip_sanity_check": True,
        "train.batch_size": 24,
        **{f"trainer.{name}": value for name, value in values.items()},
    }
    request = make_request(loaded_class(scenario, {}), [Layer.from_mapping("check", layer)], manager)
    parts = RunComponents(
        schedule=lambda _: keras.optimizers.schedules.ExponentialDecay(0.01, 1000, 1.0),
        optimizer=keras.optimizers.Adam,
        callbacks=dict(callbacks or {}),
    )
    return Trainer.from_request(request, output_dir=folder, name="check", parts=parts)
