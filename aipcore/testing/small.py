"""Small scenarios, and short runs of them, in which checks put plugins."""

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
    """Noisy points around three centres; one input, one output, dropout and batch normalisation."""

    monitor = ("max", "accuracy")

    def train_data(self) -> Any:
        """48 points, float32 [48, 6], and their classes."""
        return _blobs(48, 1)

    def val_data(self) -> Any:
        """16 others."""
        return _blobs(16, 2)

    def build(self, inputs: Any) -> Any:
        """Points to logits."""
        hidden = keras.layers.Dense(8, activation="relu")(inputs)
        hidden = keras.layers.Dropout(0.2)(keras.layers.BatchNormalization()(hidden))
        return keras.layers.Dense(CLASSES)(hidden)

    def losses(self) -> Any:
        """Cross-entropy."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self) -> Any:
        """Accuracy."""
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]


class Images(Blobs):
    """The points of `Blobs` as images of 2 by 3 pixels."""

    def train_data(self) -> Any:
        """48 images, float32 [48, 2, 3], and their classes."""
        points, labels = super().train_data()
        return points.reshape(-1, 2, 3), labels

    def val_data(self) -> Any:
        """16 others."""
        points, labels = super().val_data()
        return points.reshape(-1, 2, 3), labels

    def build(self, inputs: Any) -> Any:
        """Images to logits."""
        return super().build(keras.layers.Flatten()(inputs))


class Pairs(Scenario):
    """Two named inputs, one of them of integers, and two named outputs."""

    def train_data(self) -> Any:
        """Points and words to two targets."""
        points, labels = _blobs(16, 3)
        words = np.random.default_rng(4).integers(0, 7, (16, 2)).astype(np.int32)
        return {"point": points, "words": words}, {"label": labels, "sum": points.sum(axis=1, keepdims=True)}

    def build(self, inputs: Any) -> Any:
        """Both inputs to both outputs."""
        words = keras.layers.Flatten()(keras.layers.Embedding(7, 3)(inputs["words"]))
        hidden = keras.layers.Concatenate()([inputs["point"], words])
        return {"label": keras.layers.Dense(CLASSES)(hidden), "sum": keras.layers.Dense(1)(hidden)}


def small_graph(cls: type[Scenario]) -> Graph:
    """The model of one of these scenarios, its weights seeded."""
    keras.utils.set_random_seed(5)
    scenario = cls(from_dict(ScenarioParams, {}))
    return build_graph(scenario, as_dataset(scenario.train_data(), f"{cls.__name__}.train_data()"))


def batch_of(cls: type[Scenario], samples: int) -> dict[str, Any]:
    """The inputs of the first samples by name, as a served model is given them."""
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
    """A run with Keras' Adam at a constant rate.

    Args:
        manager: where the defaults of parameters come from.
        callbacks: by name.
        folder: for output, or None.
        scenario: what is trained.
        values: of `TrainerParams`.
    """
    layer = {
        "trainer.random_seed": 11,
        # A few steps are done sooner than compiled, and callbacks see no difference.
        "trainer.force_eager": True,
        "trainer.export_best": False,
        "trainer.export_final": False,
        "trainer.skip_sanity_check": True,
        **{f"trainer.{name}": value for name, value in values.items()},
    }
    request = make_request(loaded_class(scenario, {}), [Layer.from_mapping("check", layer)], manager)
    parts = RunComponents(
        schedule=lambda _: keras.optimizers.schedules.ExponentialDecay(0.01, 1000, 1.0),
        optimizer=keras.optimizers.Adam,
        callbacks=dict(callbacks or {}),
    )
    return Trainer.from_request(request, output_dir=folder, name="check", parts=parts)
