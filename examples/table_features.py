"""A table of mixed types: FeatureSpace scales, bins and encodes its columns, in training and in the exported model.

aip train examples/table_features.py
"""

from aipcore.scenario import Scenario


class Contracts(Scenario):
    """Predicts which customers end their contract, from their age, monthly bill, plan and region."""

    defaults = {"trainer.epochs": 20, "learning_rate.lr": 0.01}

    def train_data(self):
        return made_up_customers(seed=1)

    def val_data(self):
        return made_up_customers(seed=2)

    def preprocessing(self):
        from keras.utils import FeatureSpace as Space

        columns = {"age": Space.float_discretized(num_bins=8), "bill": Space.float_normalized()}
        columns |= {"plan": Space.string_categorical(), "region": Space.integer_categorical()}
        return Space(columns, crosses=[Space.cross(("plan", "region"), crossing_dim=16)], output_mode="concat")

    def build(self, inputs):
        from keras import layers

        return layers.Dense(1, activation="sigmoid")(layers.Dense(16, activation="relu")(inputs))

    def losses(self):
        return "binary_crossentropy"

    def metrics(self):
        return ["accuracy"]


def made_up_customers(seed):
    """Return the columns of 500 synthetic customers, and an array of shape [500, 1] that is 1 for those who leave."""
    import numpy as np

    random = np.random.default_rng(seed)
    table = {
        "age": random.integers(18, 90, 500),
        "bill": random.gamma(4, 10, 500).astype(np.float32),
        "plan": random.choice(["basic", "family", "student"], 500),
        "region": random.integers(1, 6, 500),
    }
    leaves = (table["bill"] > 40) & (table["plan"] != "family") | (table["age"] < 25)
    return table, leaves[:, None].astype(np.float32)
