"""A generative adversarial network with two optimizers: a small DCGAN that draws digits.

aip train examples/gan.py
aip train examples/gan.py --model.loss wasserstein --updates.discriminator.times 5
aip predict runs/gan-1 --trust --output drawn.npz
"""

from typing import Literal

from aipcore.params import at_least, field, group, params
from aipcore.scenario import ImageGrid, ModelParams, Scenario, ScenarioParams, Update


@params
class Model(ModelParams):
    noise: int = field(16, help="Random numbers that the generator turns into an image.", check=at_least(1))
    filters: int = field(32, help="Filters of the smallest images. Larger images have half of them.", check=at_least(2))
    loss: Literal["logistic", "wasserstein"] = field(
        "logistic",
        help="Loss of both networks. wasserstein adds a gradient penalty to the discriminator (WGAN-GP).",
    )
    penalty: float = field(10.0, help="Factor of the gradient penalty of the wasserstein loss.", check=at_least(0))


@params
class Params(ScenarioParams):
    model: Model = group(Model, help="The two networks.")


class GAN(Scenario):
    """Draws digits: a generator and a discriminator, each with its own update."""

    params_class = Params
    defaults = {
        "trainer.epochs": 40,
        "updates.discriminator.optimizer.beta_1": 0.5,
        "updates.discriminator.learning_rate": "Constant",
        "updates.discriminator.learning_rate.lr": 5e-4,
        "updates.generator.optimizer.beta_1": 0.5,
        "updates.generator.learning_rate": "Constant",
        "updates.generator.learning_rate.lr": 1e-3,
    }
    monitor = ("min", "drawn_moments")

    def train_data(self):
        return self.part(0)

    def val_data(self):
        return self.part(1)

    def part(self, number):
        """Return images from -1 to 1, and the random numbers with which the exported model draws others."""
        import numpy as np
        from aip_plugins.scenarios.tutorial.datasets import load

        images = load("digits")[number][0][..., None] * 2 - 1
        noise = np.random.default_rng(number).normal(size=(len(images), self.params.model.noise))
        return {"image": images, "noise": noise.astype(np.float32)}, {"drawn": images}

    def build(self, inputs):
        """Build both networks. The losses call them again, by their names."""
        import keras
        from keras import layers

        filters = self.params.model.filters
        generator = keras.Sequential(
            [
                layers.Dense(2 * 2 * filters),
                layers.Reshape((2, 2, filters)),
                layers.LayerNormalization(),
                layers.ReLU(),
                layers.Conv2DTranspose(filters // 2, 4, strides=2, padding="same"),
                layers.LayerNormalization(),
                layers.ReLU(),
                layers.Conv2DTranspose(1, 4, strides=2, padding="same", activation="tanh", dtype="float32"),
            ],
            name="generator",
        )
        discriminator = keras.Sequential(
            [
                layers.Conv2D(filters // 2, 4, strides=2, padding="same"),
                layers.LeakyReLU(0.2),
                layers.Conv2D(filters, 4, strides=2, padding="same"),
                layers.LeakyReLU(0.2),
                layers.Flatten(),
                layers.Dense(1, dtype="float32"),
            ],
            name="discriminator",
        )
        return {"drawn": generator(inputs["noise"]), "score": discriminator(inputs["image"])}

    def build_prediction(self, model):
        """Export the generator."""
        import keras

        return keras.Model({"noise": model.input["noise"]}, {"drawn": model.output["drawn"]})

    def discriminator_loss(self, model, inputs, targets, random):
        """Return, for each sample, the loss of its image and of a drawn one."""
        import tensorflow as tf

        real, score = inputs["image"], model.get_layer("discriminator")
        drawn = model.get_layer("generator")(random.normal(self.params.model.noise))
        if self.params.model.loss == "logistic":
            return tf.nn.softplus(-score(real)[:, 0]) + tf.nn.softplus(score(drawn)[:, 0])
        mixed = real + random.uniform(1, 1, 1) * (drawn - real)
        with tf.GradientTape() as tape:
            tape.watch(mixed)
            total = tf.reduce_sum(score(mixed))
        slope = tf.sqrt(tf.reduce_sum(tape.gradient(total, mixed) ** 2, axis=(1, 2, 3)) + 1e-12)
        return score(drawn)[:, 0] - score(real)[:, 0] + self.params.model.penalty * (slope - 1) ** 2

    def generator_loss(self, model, inputs, targets, random):
        """Return, for each sample, how clearly the discriminator recognises a drawn image."""
        import tensorflow as tf

        drawn = model.get_layer("generator")(random.normal(self.params.model.noise))
        score = model.get_layer("discriminator")(drawn)[:, 0]
        return tf.nn.softplus(-score) if self.params.model.loss == "logistic" else -score

    updates = (
        Update("discriminator", trains="discriminator", loss=discriminator_loss),
        Update("generator", trains="generator", loss=generator_loss),
    )

    def metrics(self):
        return {"drawn": [moments()]}

    def summaries(self, inputs, targets, outputs, meta):
        return [ImageGrid("drawn", (outputs["drawn"][:64] + 1) / 2)]


def moments():
    """Return a metric of drawn images: the mean difference of mean and deviation of each pixel from those of real ones.

    It is 0 if they have the same distribution of each pixel. It does not compare pixels with each other.
    """
    import keras
    from keras import ops

    class Moments(keras.metrics.Metric):
        def __init__(self, name="moments"):
            super().__init__(name=name)
            self.sums = self.add_variable((4, 64), "zeros", name="sums")
            self.count = self.add_variable((), "zeros", name="count")

        def update_state(self, y_true, y_pred, sample_weight=None):
            real, drawn = (ops.reshape(ops.cast(each, "float32"), (-1, 64)) for each in (y_true, y_pred))
            rows = [ops.sum(each**power, axis=0) for each in (real, drawn) for power in (1, 2)]
            self.sums.assign_add(ops.stack(rows))
            self.count.assign_add(ops.cast(ops.shape(real)[0], "float32"))

        def result(self):
            real, squared_real, drawn, squared_drawn = ops.unstack(self.sums / ops.maximum(self.count, 1), 4)
            spread = [ops.sqrt(ops.maximum(b - a**2, 0)) for a, b in ((real, squared_real), (drawn, squared_drawn))]
            return ops.mean(ops.abs(real - drawn)) + ops.mean(ops.abs(spread[0] - spread[1]))

    return Moments()
