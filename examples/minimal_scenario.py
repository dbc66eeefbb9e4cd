"""The smallest useful scenario: learns y = sin(x). Run it with `aip train examples/minimal_scenario.py`."""

import numpy as np

from aipcore.params import field, group, params
from aipcore.scenario import ModelParams, Scenario, ScenarioParams


@params
class Model(ModelParams):
    units: int = field(64, help="Units of the hidden layer.")


@params
class Params(ScenarioParams):
    model: Model = group(Model, help="The network.")


class Sine(Scenario):
    """Learns y = sin(x)."""

    params_class = Params
    defaults = {"trainer.epochs": 30, "optimizer": "Adam", "learning_rate.lr": 0.01}

    def train_data(self):
        x = np.random.default_rng(0).uniform(-3, 3, (2000, 1))
        return x, np.sin(x)

    def val_data(self):
        x = np.linspace(-3, 3, 200)[:, None]
        return x, np.sin(x)

    def build(self, inputs):
        from keras import layers

        return layers.Dense(1)(layers.Dense(self.params.model.units, activation="tanh")(inputs))

    def losses(self):
        return "mse"
