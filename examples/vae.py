"""A variational autoencoder of digits (Kingma and Welling, 2014).

aip train examples/vae.py --trainer.output_dir vae
aip predict vae --trust --output images.npz
"""

import attrs

from aipcore.params import at_least, field, group, params
from aipcore.scenario import ModelParams, RandomProcessor, Scenario, ScenarioParams


@params
class Model(ModelParams):
    code: int = field(4, help="Size of the code of an image.", check=at_least(1))
    units: int = field(128, help="Hidden units of encoder and decoder.", check=at_least(1))
    beta: float = field(1.0, help="Factor on the KL divergence.", check=at_least(0))


@params
class Params(ScenarioParams):
    model: Model = group(Model, help="The network.")


class Noise(RandomProcessor):
    """Draws the noise of the code. It depends on seed, epoch and sample only, not on batches or devices."""

    def process(self, sample, rng):
        import numpy as np

        noise = rng.standard_normal(sample.inputs["noise"].shape).astype(np.float32)
        return attrs.evolve(sample, inputs={**sample.inputs, "noise": noise})


class Autoencoder(Scenario):
    """Encodes digits as a few normally distributed numbers."""

    params_class = Params
    defaults = {"trainer.epochs": 30, "learning_rate.lr": 0.003}

    def train_data(self):
        return self.part(0)

    def val_data(self):
        return self.part(1)

    def part(self, number):
        import numpy as np
        from aip_plugins.scenarios.tutorial.datasets import load

        images, _ = load("digits")[number]
        # Validation uses the mean of each code: its noise stays 0.
        return {"image": images, "noise": np.zeros((len(images), self.params.model.code), np.float32)}, images

    def processors(self):
        return [Noise()]

    def build(self, inputs):
        import keras
        from keras import layers, ops

        size, units = self.params.model.code, self.params.model.units
        hidden = layers.Dense(units, activation="relu", name="encoder")(layers.Flatten()(inputs["image"]))
        mean = layers.Dense(size, name="mean")(hidden)
        log_variance = layers.Dense(size, name="log_variance")(hidden)
        decoder = keras.Sequential(
            [layers.Dense(units, activation="relu", name="hidden"), layers.Dense(64, name="pixels"),
             layers.Reshape((8, 8))], name="decoder",
        )  # fmt: skip
        image = decoder(mean + ops.exp(0.5 * log_variance) * inputs["noise"])
        return {"image": image, "mean": mean, "log_variance": log_variance}

    def loss_values(self, inputs, targets, outputs):
        """Return both terms of the evidence lower bound, one value per sample."""
        from keras import ops

        mean, log_variance = outputs["mean"], outputs["log_variance"]
        pixels = ops.binary_crossentropy(targets[""], outputs["image"], from_logits=True)
        return {
            "reconstruction": ops.sum(pixels, axis=(1, 2)),
            "divergence": 0.5 * ops.sum(ops.square(mean) + ops.exp(log_variance) - 1 - log_variance, axis=1),
        }

    def loss_weights(self):
        return {"reconstruction": 1.0, "divergence": self.params.model.beta}

    def build_prediction(self, model):
        """Build the graph for prediction: the image of the mean code, without noise."""
        import keras
        from keras import ops

        mean = model.get_layer("mean").output
        image = ops.sigmoid(model.get_layer("decoder")(mean))
        return keras.Model({"image": model.input["image"]}, {"reconstructed": image, "code": mean})

    def export_graphs(self, model):
        """Export the decoder too: it generates images from any code."""
        import keras
        from keras import ops

        code = keras.Input((self.params.model.code,), name="code")
        return {"generate": keras.Model({"code": code}, {"generated": ops.sigmoid(model.get_layer("decoder")(code))})}
