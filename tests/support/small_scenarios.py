"""Small scenarios for tests: they train in a fraction of a second, and their numbers are known."""

from __future__ import annotations

from typing import Any

import numpy as np

from aipcore.scenario import Scenario, Update

FEATURES = 12
CLASSES = 4
PAIR_SAMPLES = 160


def blobs(samples: int, seed: int) -> tuple[Any, Any]:
    """Noisy points around one centre per class: float32 [samples, 12] and int32 [samples]."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, samples).astype(np.int32)
    centres = np.random.default_rng(99).normal(size=(CLASSES, FEATURES))
    return (centres[labels] + generator.normal(size=(samples, FEATURES))).astype(np.float32), labels


class Blobs(Scenario):
    """Classification of noisy points, with nothing random in the model."""

    monitor = ("max", "accuracy")
    samples = 200

    def train_data(self) -> Any:
        return blobs(self.samples, 1)

    def val_data(self) -> Any:
        return blobs(64, 2)

    def build(self, inputs: Any) -> Any:
        from keras import layers

        hidden = layers.Dense(16, activation="relu")(inputs)
        return layers.Dense(CLASSES)(hidden)

    def losses(self) -> Any:
        import keras

        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self) -> Any:
        import keras

        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]


class NoisyBlobs(Blobs):
    """The same with dropout and batch normalization, whose states a resumed run has to restore."""

    def build(self, inputs: Any) -> Any:
        from keras import layers

        hidden = layers.Dense(16, activation="relu")(inputs)
        hidden = layers.Dropout(0.3)(layers.BatchNormalization()(hidden))
        return layers.Dense(CLASSES)(hidden)


class Weight(Scenario):
    """One weight w and the loss (w x)^2: every update has a closed form."""

    x: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 5.0)

    def train_data(self) -> Any:
        return np.array(self.x, np.float32)[:, None], np.zeros((len(self.x), 1), np.float32)

    def build(self, inputs: Any) -> Any:
        from keras import layers

        return layers.Dense(1, use_bias=False, kernel_initializer="ones")(inputs)

    def losses(self) -> Any:
        return "mean_squared_error"


class Pair(Scenario):
    """A critic and a painter of points. The noise is part of the data, so that a plain loop has the same."""

    def train_data(self) -> Any:
        generator = np.random.default_rng(3)
        points = generator.normal([2, -1], [1, 0.5], size=(PAIR_SAMPLES, 2))
        noise = generator.normal(size=(PAIR_SAMPLES, 3))
        return {"point": np.float32(points), "noise": np.float32(noise)}, np.float32(points)

    def val_data(self) -> Any:
        (inputs, targets) = self.train_data()
        return {name: column[:40] for name, column in inputs.items()}, targets[:40]

    def build(self, inputs: Any) -> Any:
        import keras
        from keras import layers

        painter = keras.Sequential(
            [layers.Dense(8, "tanh", name="hidden"), layers.Dense(2, name="out")], name="painter"
        )
        critic = keras.Sequential(
            [
                layers.Dense(8, "tanh", name="hidden", kernel_regularizer=keras.regularizers.L2(0.01)),
                layers.Dropout(0.25, name="drop") if self.drops else layers.Identity(name="drop"),
                layers.BatchNormalization(name="norm") if self.drops else layers.Identity(name="norm"),
                layers.Dense(1, name="out"),
            ],
            name="critic",
        )
        return {"painted": painter(inputs["noise"]), "score": critic(inputs["point"])}

    drops = False

    def critic_loss(self, model: Any, inputs: Any, targets: Any) -> Any:
        import tensorflow as tf

        painted = model.get_layer("painter")(inputs["noise"])
        critic = model.get_layer("critic")
        return tf.nn.softplus(-critic(inputs["point"])[:, 0]) + tf.nn.softplus(critic(painted)[:, 0])

    def painter_loss(self, model: Any, inputs: Any, targets: Any) -> Any:
        import tensorflow as tf

        return tf.nn.softplus(-model.get_layer("critic")(model.get_layer("painter")(inputs["noise"]))[:, 0])

    updates = (
        Update("critic", trains="critic/.*", loss=critic_loss),
        Update("painter", trains="painter", loss=painter_loss),
    )

    def metrics(self) -> Any:
        import keras

        return {"painted": [keras.metrics.MeanAbsoluteError(name="distance")]}
