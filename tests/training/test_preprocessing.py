"""Preprocessing with a state from the training data: adapted once, exported with the model, restored with the run."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from aipcore.errors import ScenarioError
from aipcore.prediction import Predictor
from aipcore.scenario import Scenario, Stream

TEXTS = ["good film", "bad film", "very good", "very bad, bad", "Gut, sehr gut", ""] * 8
LABELS = np.array([1, 0, 1, 0, 1, 0] * 8, "float32")[:, None]
RAW = ["very good", "bad", "unknown words"]
WORDS = ("--optimizer", "SGD", "--learning_rate", "Constant", "--learning_rate.lr", "0.1", "--train.shuffle", "false")


def vectorizer(**options: Any) -> Any:
    """Return a layer that is not adapted."""
    return keras.layers.TextVectorization(**options)


def network(inputs: Any) -> Any:
    """Return the output of a small text classifier."""
    initializer = keras.initializers.RandomUniform(seed=1)
    hidden = keras.layers.Embedding(16, 4, embeddings_initializer=initializer)(inputs)
    hidden = keras.layers.GlobalAveragePooling1D()(hidden)
    return keras.layers.Dense(1, activation="sigmoid", kernel_initializer=initializer)(hidden)


class Texts(Scenario):
    """Text classification."""

    def train_data(self) -> Any:
        return TEXTS, LABELS

    def val_data(self) -> Any:
        return TEXTS[:20], LABELS[:20]

    def preprocessing(self) -> Any:
        return vectorizer(output_sequence_length=4)

    def build(self, inputs: Any) -> Any:
        return network(inputs)

    def losses(self) -> Any:
        return "binary_crossentropy"


class Padded(Texts):
    """The same, read as a stream, with batches as long as their longest text."""

    def train_data(self) -> Any:
        return Stream(lambda: zip(TEXTS, LABELS, strict=True), length=len(TEXTS))

    def preprocessing(self) -> Any:
        return vectorizer()


@pytest.mark.parametrize("cls", [Texts, Padded])
def test_losses_are_those_of_keras(make_trainer: Any, cls: Any) -> None:
    """Two epochs give the losses of `Model.fit` on the output of the layer, adapted to the same texts."""
    trainer = make_trainer(cls, *WORDS, exports=False)
    losses = [epoch["loss"] for epoch in trainer.fit().history]
    layer = cls({}).preprocessing()
    layer.adapt(TEXTS)
    inputs = keras.Input((4 if cls is Texts else None,), dtype="int64")
    model = keras.Model(inputs, network(inputs))
    model.compile(keras.optimizers.SGD(0.1), loss="binary_crossentropy")
    batches = tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(16).map(lambda x, y: (layer(x), y))
    expected = model.fit(batches, epochs=2, shuffle=False, verbose=0).history["loss"]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_exports_and_resumed_runs_keep_the_state(
    make_trainer: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All saved models answer raw strings, and a run resumed with other texts keeps its vocabulary."""
    first = make_trainer(Texts, *WORDS, output="run").fit()
    folder = tmp_path / "run"
    layer = vectorizer(output_sequence_length=4)
    layer.adapt(TEXTS)
    expected = first.model.predict(layer(tf.constant(RAW)), verbose=0)
    served = tf.saved_model.load(str(folder / "export")).signatures["serving_default"](inputs=tf.constant(RAW))
    np.testing.assert_allclose(served["outputs"], expected, rtol=1e-6)
    for part in ("export", "checkpoint"):
        np.testing.assert_allclose(Predictor.load(folder / part, trust=True).predict_raw(RAW), expected, rtol=1e-6)
    monkeypatch.setattr(Texts, "preprocessing", lambda _: pytest.fail("adapted again"))
    again = make_trainer(Texts, *WORDS, output="run", adapted_in=folder)
    again.restore(next((folder / "checkpoint").glob("step-*")))
    np.testing.assert_array_equal(again.model.get_weights()[0], first.model.get_weights()[0])
    known = again.data.train.known().batch(np.arange(4)).inputs[""]
    np.testing.assert_array_equal(known, layer(tf.constant(TEXTS[:4])))


def test_feature_space(make_trainer: Any, tmp_path: Any) -> None:
    """A table of mixed types is encoded as by its own `FeatureSpace`, in training and in the exported model."""
    random = np.random.default_rng(0)
    table = {"age": random.integers(18, 90, 60), "job": random.choice(["a", "b", "c"], 60)}
    targets = (table["age"] > 40).astype("float32")[:, None]

    def features() -> Any:
        space = keras.utils.FeatureSpace
        return space({"age": space.float_normalized(), "job": space.string_categorical()}, output_mode="concat")

    class Table(Texts):
        def train_data(self) -> Any:
            return table, targets

        val_data = train_data

        def preprocessing(self) -> Any:
            return features()

        def build(self, inputs: Any) -> Any:
            return keras.layers.Dense(1, activation="sigmoid")(inputs)

    trainer = make_trainer(Table, *WORDS, output="run")
    space = features()
    space.adapt(tf.data.Dataset.from_tensor_slices(table))
    expected = space({name: tf.constant(column) for name, column in table.items()})
    np.testing.assert_allclose(trainer.data.train.known().inputs.columns[""], expected, rtol=1e-6)
    model = trainer.fit().model
    loaded = tf.saved_model.load(str(tmp_path / "run" / "export"))
    found = loaded.signatures["serving_default"](**{name: tf.constant(column) for name, column in table.items()})
    np.testing.assert_allclose(found["outputs"], model.predict(expected, verbose=0), rtol=1e-5)


def test_wrong_preprocessing_is_named(make_trainer: Any, refused: Any) -> None:
    """A value that is not a layer is refused in a sentence."""

    class Nothing(Texts):
        def preprocessing(self) -> Any:
            return [vectorizer()]

    with refused(ScenarioError):
        make_trainer(Nothing)
