"""Embeddings whose indices repeat within a batch, against Model.fit."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from aipcore.scenario import Scenario

TOKENS = np.random.default_rng(1).integers(0, 5, (96, 12)).astype(np.int32)
LABELS = (TOKENS.sum(1) % 3).astype(np.int32)
FIXED = (
    "--learning_rate",
    "Constant",
    "--learning_rate.lr",
    "0.05",
    "--train.shuffle",
    "false",
    "--trainer.tune",
    "off",
)


class Tokens(Scenario):
    """A classifier of sequences over 5 of 8 tokens."""

    def train_data(self) -> Any:
        return TOKENS, LABELS

    def build(self, inputs: Any) -> Any:
        embedded = keras.layers.Flatten()(keras.layers.Embedding(8, 4)(inputs))
        return keras.layers.Dense(3, activation="softmax")(embedded)

    def losses(self) -> Any:
        return "sparse_categorical_crossentropy"


@pytest.mark.parametrize(
    ("words", "optimizer", "jit"),
    [
        (("Adam",), keras.optimizers.Adam(0.05), "off"),
        (("AdamW",), keras.optimizers.AdamW(0.05), "off"),
        (("RMSprop",), keras.optimizers.RMSprop(0.05), "off"),
        pytest.param(("RMSprop",), keras.optimizers.RMSprop(0.05), "on", marks=pytest.mark.slow),
        (("SGD", "--optimizer.momentum", "0.9"), keras.optimizers.SGD(0.05, momentum=0.9), "off"),
    ],
)
def test_equals_model_fit(make_trainer: Any, words: tuple[str, ...], optimizer: Any, jit: str) -> None:
    """Keras squares the rows of the gradient before it adds rows of the same index. Losses and weights are equal."""
    trainer = make_trainer(
        Tokens, "--optimizer", *words, *FIXED, "--train.batch_size", "32", "--trainer.jit_compile", jit
    )
    model = keras.models.clone_model(trainer.model)
    model.set_weights(trainer.model.get_weights())
    model.compile(optimizer, Tokens(trainer.params).losses(), jit_compile=jit == "on")
    expected = model.fit(TOKENS, LABELS, batch_size=32, epochs=2, shuffle=False, verbose=0).history["loss"]
    found = [logs["loss"] for logs in trainer.fit().history]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    for ours, theirs in zip(trainer.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_dense_in_groups_and_with_clipping(make_trainer: Any) -> None:
    """In an accumulation group and with clipping, rows of the same index are added before they are squared."""
    weights = []
    for words in (
        ("--train.batch_size", "16", "--trainer.accumulate_steps", "2"),
        ("--train.batch_size", "32", "--optimizer.clip_value", "1e6"),
        ("--train.batch_size", "32"),
    ):
        trainer = make_trainer(Tokens, "--optimizer", "Adam", *FIXED, *words, "--trainer.epochs", "1")
        trainer.fit()
        weights.append(trainer.model.get_weights()[0])
    group, clipped, plain = weights
    np.testing.assert_allclose(group, clipped, atol=1e-5)
    assert np.abs(plain - clipped).max() > 1e-3


def test_same_bits_for_many_rows(make_trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs with more rows per batch than TensorFlow scatters on one thread are bit-identical."""
    monkeypatch.setattr("test_embeddings.TOKENS", np.tile(TOKENS, 20))
    words = ("--optimizer", "SGD", *FIXED, "--train.batch_size", "96", "--trainer.epochs", "3")
    weights = []
    for _ in range(2):
        trainer = make_trainer(Tokens, *words)
        trainer.fit()
        weights.append(trainer.model.get_weights()[0])
    np.testing.assert_array_equal(*weights)
