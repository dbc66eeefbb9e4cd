"""Fine-tuning in phases: a new head on frozen layers, then all layers, with different learning rates.

aip train examples/finetune.py:Pretraining --trainer.output_dir backbone
aip train examples/finetune.py:FineTuning --warmstart.model backbone --warmstart.exclude 'head/.*'
"""

from aipcore.scenario import Scenario


class Pretraining(Scenario):
    """Classifies the digits 0 to 4."""

    digits = (0, 1, 2, 3, 4)
    per_digit = 1000
    defaults = {"trainer.epochs": 5, "learning_rate.lr": 0.01}
    monitor = ("max", "accuracy")

    def train_data(self):
        return self.part(0, self.per_digit)

    def val_data(self):
        return self.part(1, 1000)

    def part(self, number, most):
        import numpy as np
        from aip_plugins.scenarios.tutorial.datasets import load

        images, labels = load("digits")[number]
        chosen = np.sort(np.concatenate([np.flatnonzero(labels == digit)[:most] for digit in self.digits]))
        return images[chosen], np.searchsorted(self.digits, labels[chosen]).astype(np.int32)

    def build(self, inputs):
        import keras
        from keras import layers

        backbone = [layers.Reshape((8, 8, 1))]
        for number, filters in enumerate((16, 32), start=1):
            backbone += [
                layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv_{number}"),
                layers.BatchNormalization(momentum=0.9, name=f"norm_{number}"),
                layers.ReLU(),
                layers.MaxPooling2D(2),
            ]
        features = keras.Sequential([*backbone, layers.Flatten()], name="backbone")(inputs)
        return layers.Dense(len(self.digits), name="head")(features)

    def losses(self):
        from keras.losses import SparseCategoricalCrossentropy

        return SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self):
        from keras.metrics import SparseCategoricalAccuracy

        return [SparseCategoricalAccuracy(name="accuracy")]


class FineTuning(Pretraining):
    """Classifies the digits 5 to 9 after 4 examples of each: trains the head for 10 epochs, then also the kernels.

    Batch normalisation stays frozen, since 20 images are too few for new statistics.
    """

    digits = (5, 6, 7, 8, 9)
    per_digit = 4
    defaults = {
        "trainer.epochs": 30,
        "trainer.rates": ("backbone/.*=0", "backbone/.*@11=0.1", "backbone/norm_.*=0"),
        "train.batch_size": 10,
        "learning_rate.lr": 0.01,
    }
