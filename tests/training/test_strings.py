"""Scenarios with inputs of strings: trained, evaluated, predicted and exported, against Keras."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from aipcore.cli.main import main
from aipcore.errors import ScenarioError, TrainingError
from aipcore.prediction import Predictor
from aipcore.scenario import Sample, Scenario

TEXTS = ["good film", "bad film", "very good", "very bad", "Gut, sehr gut", ""] * 8
LABELS = np.array([1, 0, 1, 0, 1, 0] * 8, "float32")[:, None]
RAW = ["very good", "bad", "unknown words"]
WORDS = (
    "--optimizer", "SGD", "--learning_rate", "Constant", "--learning_rate.lr", "0.1", "--train.shuffle", "false",
    "--train.batch_size", "16",
)  # fmt: skip


def network(inputs: Any) -> Any:
    """Return the output of a small text classifier with its own vocabulary."""
    words = keras.layers.TextVectorization(output_sequence_length=4, name="words")
    words.adapt(TEXTS)
    initializer = keras.initializers.RandomUniform(seed=1)
    hidden = keras.layers.Embedding(16, 4, embeddings_initializer=initializer)(words(inputs))
    hidden = keras.layers.GlobalAveragePooling1D()(hidden)
    return keras.layers.Dense(1, activation="sigmoid", kernel_initializer=initializer)(hidden)


class Texts(Scenario):
    """Text classification with the vocabulary in the model."""

    def train_data(self) -> Any:
        return TEXTS, LABELS

    def val_data(self) -> Any:
        return TEXTS[:20], LABELS[:20]

    def build(self, inputs: Any) -> Any:
        return network(inputs)

    def losses(self) -> Any:
        return "binary_crossentropy"

    def metrics(self) -> Any:
        return ["accuracy"]


class Named(Texts):
    """The same with samples of named inputs, in worker-friendly form, one of which the model does not use."""

    def train_data(self) -> Any:
        return [Sample(inputs={"text": text, "n": 1}, targets=y) for text, y in zip(TEXTS, LABELS, strict=True)]

    val_data = train_data

    def build(self, inputs: Any) -> Any:
        return network(inputs["text"])


class Batches(Texts):
    """The same with a `tf.data.Dataset`."""

    def train_data(self) -> Any:
        return tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(16)


@pytest.mark.parametrize("cls", [Batches, *(pytest.param(each, marks=pytest.mark.slow) for each in (Texts, Named))])
def test_losses_are_those_of_keras(make_trainer: Any, cls: Any) -> None:
    """Two epochs on strings give the losses and metrics of `Model.fit` on the same strings."""
    losses = make_trainer(cls, *WORDS, exports=False).fit().history
    inputs = keras.Input((), dtype="string")
    model = keras.Model(inputs, network(inputs))
    model.compile(keras.optimizers.SGD(0.1), loss="binary_crossentropy", metrics=["accuracy"])
    expected = model.fit(
        tf.constant(TEXTS), LABELS, epochs=2, batch_size=16, shuffle=False, verbose=0, validation_data=None
    ).history
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose([epoch[name] for epoch in losses], expected[name], rtol=1e-5)


@pytest.fixture
def run(make_trainer: Any, tmp_path: Any) -> Any:
    """Return a trained run and its folder."""
    trainer = make_trainer(Texts, *WORDS, output="run")
    return trainer.fit(), tmp_path / "run"


def test_export_answers_raw_strings(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The SavedModels, the predictor of each saved model and `aip lav` give the outputs of the trained model."""
    result, folder = run
    expected = result.model.predict(tf.constant(RAW), verbose=0)
    for part in ("best", "export"):
        loaded = tf.saved_model.load(str(folder / part))
        answer = loaded.signatures["serving_default"](inputs=tf.constant(RAW))["outputs"]
        if part == "export":
            np.testing.assert_allclose(answer, expected, rtol=1e-6)
    for part in ("checkpoint", "export"):
        predictor = Predictor.load(folder / part, trust=True)
        for texts in (RAW, np.array(RAW), [text.encode() for text in RAW]):
            np.testing.assert_allclose(predictor.predict_raw(texts), expected, rtol=1e-6)
        assert [each.index for each in predictor.predict([Sample(inputs=text) for text in RAW])] == [0, 1, 2]
        np.testing.assert_allclose([each.raw[""] for each in predictor.predict(RAW)], expected, rtol=1e-6)
    scores = []
    for part in ("checkpoint", "export"):
        assert main(["lav", str(folder / part), "--trust"]) == 0
        scores.append(capsys.readouterr().out)
    assert scores[0] == scores[1]
    loss = keras.losses.binary_crossentropy(LABELS[:20], result.model.predict(tf.constant(TEXTS[:20]), verbose=0))
    found = dict(line.split("\t") for line in scores[0].splitlines())
    assert float(found["loss"]) == pytest.approx(float(np.mean(loss)), rel=1e-5)


def test_what_strings_exclude(make_trainer: Any, refused: Any) -> None:
    """XLA, and a model that uses strings as numbers, are refused in a sentence."""

    class Numbers(Texts):
        def build(self, inputs: Any) -> Any:
            return keras.layers.Dense(1)(keras.layers.Flatten()(inputs))

    with refused(ScenarioError):
        make_trainer(Numbers, *WORDS)
    with refused(TrainingError):
        make_trainer(Texts, *WORDS, "--trainer.jit_compile", "on").fit()
