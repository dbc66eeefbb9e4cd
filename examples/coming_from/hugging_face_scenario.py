"""The training of `hugging_face_trainer.py` as a scenario."""

import random

from aipcore.scenario import Scenario

GOOD, BAD = ["good", "fine", "great"], ["bad", "dull", "poor"]
WORDS = [*GOOD, *BAD, "the", "film", "was", "very", "not", "and"]


def reviews(seed, samples):
    from datasets import Dataset

    draw = random.Random(seed)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(4, 12))) for _ in range(samples)]
    scores = [sum((w in GOOD) - (w in BAD) for w in text.split()) for text in texts]
    return Dataset.from_dict({"text": texts, "label": [int(score > 0) for score in scores]})


def encode(row):
    return {"input_ids": [1 + WORDS.index(word) for word in row["text"].split()]}


class Reviews(Scenario):
    """Learns whether a review is positive."""

    monitor = ("max", "accuracy")
    defaults = {
        "trainer.epochs": 10,
        "train.batch_size": 16,
        "val.batch_size": 64,
        "optimizer": "AdamW",
        "optimizer.weight_decay": 0.01,
        "optimizer.exclude_from_weight_decay": ["bias"],
        "optimizer.epsilon": 1e-8,
        "optimizer.clip_global_norm": 1.0,
        "learning_rate": "WarmupCosineDecay",
        "learning_rate.lr": 0.01,
        "learning_rate.warmup_epochs": 1.0,
    }

    def train_data(self):
        return reviews(0, 800).map(encode).with_format("numpy")

    def val_data(self):
        return reviews(1, 200).map(encode).with_format("numpy")

    def to_sample(self, row):
        return row["input_ids"], row["label"]

    def build(self, inputs):
        from keras import layers

        embedded = layers.Embedding(1 + len(WORDS), 16, mask_zero=True)(inputs)
        return layers.Dense(2)(layers.GlobalAveragePooling1D()(embedded))

    def losses(self):
        import keras

        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self):
        return ["accuracy"]
