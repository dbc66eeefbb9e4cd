"""Augmentation over several samples: mixup and CutMix of images and their classes.

aip train examples/mixup.py --data.mix CutMix
"""

import attrs
import numpy as np

from aipcore.params import Choice, above, component, field, group, params
from aipcore.scenario import DataParams, RandomProcessor, Scenario, ScenarioParams


@params
class MixParams:
    """Base class of the augmentations: `mix` combines two samples with one-hot classes."""

    alpha: float = field(0.4, help="Parameter of the beta distribution of the shares.", check=above(0))

    def blend(self, targets, others, share):
        return np.float32(share * targets + (1 - share) * others)


@params
class Mixup(MixParams):
    """Weighted mean of two images and of their classes (Zhang et al., 2018)."""

    def mix(self, sample, partner, rng):
        share = rng.beta(self.alpha, self.alpha)
        inputs = np.float32(share * sample.inputs + (1 - share) * partner.inputs)
        return attrs.evolve(sample, inputs=inputs, targets=self.blend(sample.targets, partner.targets, share))


@params
class CutMix(MixParams):
    """A rectangle of one image in another. The classes are weighted by area (Yun et al., 2019)."""

    def mix(self, sample, partner, rng):
        size = np.array(sample.inputs.shape)
        half = size * np.sqrt(1 - rng.beta(self.alpha, self.alpha)) / 2
        center = rng.uniform(0, size)
        (top, left), (bottom, right) = (np.clip(np.round(center + d), 0, size).astype(int) for d in (-half, half))
        inputs = sample.inputs.copy()
        inputs[top:bottom, left:right] = partner.inputs[top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / inputs.size
        return attrs.evolve(sample, inputs=inputs, targets=self.blend(sample.targets, partner.targets, share))


@params
class Data(DataParams):
    mix: Choice[MixParams] = component({"Mixup": Mixup, "CutMix": CutMix}, default="Mixup", help="The augmentation.")


@params
class Params(ScenarioParams):
    data: Data = group(Data, help="The images.")


class Mix(RandomProcessor):
    """Combines each sample with another one, drawn again in each epoch."""

    partners = 1

    def __init__(self, params):
        self.params = params

    def process(self, sample, rng, partner):
        return self.params.mix(sample, partner, rng)


class MixedDigits(Scenario):
    """Classifies digits, trained on mixtures of two."""

    params_class = Params
    defaults = {"trainer.epochs": 20, "learning_rate.lr": 0.005}
    monitor = ("max", "accuracy")

    def train_data(self):
        return self.part(0)

    def val_data(self):
        return self.part(1)

    def part(self, number):
        from aip_plugins.scenarios.tutorial.datasets import load

        images, labels = load("digits")[number]
        return images, np.eye(10, dtype=np.float32)[labels]

    def processors(self):
        return [Mix(self.params.data.mix.params)]

    def build(self, inputs):
        from keras import layers

        x = layers.Reshape((8, 8, 1))(inputs)
        for filters in (16, 32):
            x = layers.MaxPooling2D(2)(layers.Conv2D(filters, 3, padding="same", activation="relu")(x))
        return layers.Dense(10, name="logits")(layers.Flatten()(x))

    def losses(self):
        from keras.losses import CategoricalCrossentropy

        return CategoricalCrossentropy(from_logits=True)

    def metrics(self):
        from keras.metrics import CategoricalAccuracy

        return [CategoricalAccuracy(name="accuracy")]
