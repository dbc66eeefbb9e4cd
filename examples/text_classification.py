"""Text classification: the vocabulary comes from the training texts, and the exported model takes raw strings.

aip train examples/text_classification.py
"""

from aipcore.scenario import Scenario


class Reviews(Scenario):
    """Classifies reviews of films as good or bad."""

    defaults = {"trainer.epochs": 20, "learning_rate.lr": 0.02}
    monitor = ("max", "accuracy")

    def train_data(self):
        return made_up_reviews(seed=1)

    def val_data(self):
        return made_up_reviews(seed=2)

    def preprocessing(self):
        from keras import layers

        return layers.TextVectorization(max_tokens=1000, output_sequence_length=12)

    def build(self, inputs):
        from keras import layers

        hidden = layers.GlobalAveragePooling1D()(layers.Embedding(1000, 16)(inputs))
        return layers.Dense(1, activation="sigmoid")(hidden)

    def losses(self):
        return "binary_crossentropy"

    def metrics(self):
        return ["accuracy"]


def made_up_reviews(seed):
    """Return 400 synthetic reviews, and an array of shape [400, 1] that is 1 for good ones."""
    import numpy as np

    random = np.random.default_rng(seed)
    nouns = ["story", "music", "ending", "cast", "camera"]
    words = {0: ["dull", "flat", "weak", "silly"], 1: ["fresh", "moving", "clever", "great"]}
    labels = random.integers(0, 2, 400)
    opinions = [[f"The {random.choice(nouns)} is {random.choice(words[label])}." for _ in range(2)] for label in labels]
    return [" ".join(each) for each in opinions], labels[:, None].astype(np.float32)
