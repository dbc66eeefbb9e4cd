"""The training of `keras_fit.py` as a scenario. Run it with `aip train examples/coming_from/keras_scenario.py`."""

import numpy as np

from aipcore.scenario import Scenario


def dataset(seed, samples):
    import tensorflow as tf

    x = np.random.default_rng(seed).uniform(-2, 2, (samples, 2)).astype("float32")
    y = (np.hypot(x[:, 0], x[:, 1]) < 1.5).astype("int32")
    return tf.data.Dataset.from_tensor_slices((x, y))


class Disc(Scenario):
    """Learns whether a point lies in a disc."""

    defaults = {
        "optimizer": "Adam",
        "learning_rate": "Constant",
        "learning_rate.lr": 0.01,
        "trainer.epochs": 10,
        "early_stopping.n_to_go": 3,
        "callbacks": ["CSVLog"],
    }

    def train_data(self):
        train = dataset(0, 1000).shuffle(1000, seed=1, reshuffle_each_iteration=False)
        return train.batch(32)

    def val_data(self):
        return dataset(1, 200).batch(32)

    def build(self, inputs):
        from keras import layers

        hidden = layers.Dense(32, activation="relu")(inputs)
        return layers.Dense(2)(hidden)

    def losses(self):
        import keras

        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self):
        return ["accuracy"]
