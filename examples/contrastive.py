"""Contrastive learning without labels: SimCLR (Chen et al., 2020), and a linear probe that shows what was learned.

aip train examples/contrastive.py
"""

import attrs

from aipcore.params import above, at_least, field, group, params
from aipcore.scenario import ModelParams, RandomProcessor, Scenario, ScenarioParams


@params
class Model(ModelParams):
    features: int = field(64, help="Size of the features.", check=at_least(1))
    projection: int = field(32, help="Size of the projection that is compared.", check=at_least(1))
    temperature: float = field(0.2, help="Divisor of the similarities.", check=above(0))


@params
class Params(ScenarioParams):
    model: Model = group(Model, help="The network.")


class TwoViews(RandomProcessor):
    """Turns the two copies of an image into two views: moved by up to one pixel, darker or brighter, and noisy."""

    def process(self, sample, rng):
        views = {name: self.view(image, rng) for name, image in sample.inputs.items()}
        return attrs.evolve(sample, inputs=views)

    def view(self, image, rng):
        import numpy as np

        down, right = rng.integers(0, 3, 2)
        moved = np.pad(image, 1)[down : down + 8, right : right + 8]
        return (moved * rng.uniform(0.6, 1.4) + rng.normal(0, 0.15, image.shape)).astype(np.float32)


class Views(Scenario):
    """Learns features of digits from pairs of views. Labels train the probe only."""

    params_class = Params
    defaults = {"trainer.epochs": 20, "train.batch_size": 128, "learning_rate.lr": 0.003}
    monitor = ("max", "probe_accuracy")

    def train_data(self):
        return self.part(0)

    def val_data(self):
        return self.part(1)

    def part(self, number):
        from aip_plugins.scenarios.tutorial.datasets import load

        images, labels = load("digits")[number]
        return {"first": images, "second": images}, labels

    def processors(self):
        return [TwoViews()]

    def build(self, inputs):
        import keras
        from keras import layers, ops

        model = self.params.model
        encoder = keras.Sequential(
            [layers.Reshape((8, 8, 1)), layers.Conv2D(16, 3, padding="same", activation="relu"),
             layers.MaxPooling2D(2), layers.Conv2D(32, 3, padding="same", activation="relu"), layers.Flatten(),
             layers.Dense(model.features, activation="relu")], name="encoder",
        )  # fmt: skip
        project = keras.Sequential([layers.Dense(model.projection), layers.UnitNormalization()], name="projection")
        first, second = encoder(inputs["first"]), encoder(inputs["second"])
        # The probe does not train the encoder.
        probe = layers.Dense(10, name="digit")(ops.stop_gradient(first))
        return {"first": project(first), "second": project(second), "probe": probe}

    def loss_values(self, inputs, targets, outputs):
        from keras import ops

        return {
            "contrastive": nt_xent(outputs["first"], outputs["second"], self.params.model.temperature),
            "probe": ops.sparse_categorical_crossentropy(targets[""], outputs["probe"], from_logits=True),
        }

    def metrics(self):
        from keras.metrics import SparseCategoricalAccuracy

        return {"probe": [SparseCategoricalAccuracy(name="accuracy")]}

    def build_prediction(self, model):
        """Build the graph for prediction: the digit and the features of a single image."""
        import keras

        image = model.input["first"]
        features = model.get_layer("encoder")(image)
        return keras.Model({"first": image}, {"probe": model.get_layer("digit")(features), "features": features})


def nt_xent(first, second, temperature):
    """Return the contrastive loss of each pair of views, of shape [batch].

    It is the cross-entropy of finding the other view of the same image among all views in the batch. The batch is what
    the loss receives: on several replicas, the part of one replica.

    Args:
        first, second: unit vectors of shape [batch, size].
        temperature: divides their similarities.
    """
    from keras import ops

    views = ops.cast(ops.concatenate([first, second]), "float32")
    pairs = ops.shape(first)[0]
    numbers = ops.arange(2 * pairs)
    similarities = ops.matmul(views, ops.transpose(views)) / temperature
    # A view is not compared with itself.
    similarities = ops.where(numbers[:, None] == numbers[None, :], -1e9, similarities)
    other = ops.concatenate([numbers[pairs:], numbers[:pairs]])
    losses = ops.sparse_categorical_crossentropy(other, similarities, from_logits=True)
    return (losses[:pairs] + losses[pairs:]) / 2
