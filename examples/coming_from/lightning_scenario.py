"""The training of `lightning_trainer.py` as a scenario: `aip train examples/coming_from/lightning_scenario.py`."""

import numpy as np

from aipcore.params import field, group, params
from aipcore.scenario import ModelParams, Scenario, ScenarioParams


class Spirals:
    def __init__(self, seed, samples):
        random = np.random.default_rng(seed)
        self.labels = random.integers(0, 3, samples)
        radius = random.uniform(0.2, 1, samples)
        angle = 4 * radius + 2 * np.pi / 3 * self.labels + random.normal(0, 0.1, samples)
        points = radius * np.stack([np.cos(angle), np.sin(angle)])
        self.points = points.T.astype("float32")

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.points[index], self.labels[index]


@params
class Model(ModelParams):
    units: int = field(64, help="Units of the hidden layer.")


@params
class Params(ScenarioParams):
    model: Model = group(Model, help="The network.")


class Classifier(Scenario):
    """Learns on which of three spirals a point lies."""

    params_class = Params
    defaults = {
        "train.batch_size": 32,
        "optimizer": "AdamW",
        "optimizer.weight_decay": 0.01,
        "optimizer.epsilon": 1e-8,
        "optimizer.clip_global_norm": 1.0,
        "learning_rate": "CosineDecay",
        "learning_rate.lr": 0.01,
        "trainer.epochs": 20,
        "trainer.random_seed": 1,
        "early_stopping.n_to_go": 5,
    }

    def train_data(self):
        return Spirals(0, 900)

    def val_data(self):
        return Spirals(1, 300)

    def build(self, inputs):
        from keras import layers

        hidden = layers.Dense(self.params.model.units, activation="relu")(inputs)
        return layers.Dense(3)(hidden)

    def losses(self):
        import keras

        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self):
        return ["accuracy"]
