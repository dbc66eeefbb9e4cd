"""The bidirectional LSTM of text line recognition, compared with that of Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


def models(dtype: str = "float32") -> tuple[Any, Any]:
    """Return a model with the layer, and one of Keras with the same weights."""
    import keras
    from aip_plugins.scenarios.text_line_recognition.lstm import Bidirectional

    made = []
    for layer in (Bidirectional, keras.layers.Bidirectional):
        inputs, mask = keras.Input((None, 7), name="inputs"), keras.Input((None,), dtype="bool", name="mask")
        lstm = keras.layers.LSTM(5, return_sequences=True, name="lstm", dtype=dtype)
        outputs = layer(lstm, name="line", dtype=dtype)(inputs, mask=mask)
        made.append(keras.Model([inputs, mask], outputs))
    for weight in made[0].weights:
        weight.assign(np.random.default_rng(0).normal(0, 0.5, weight.shape))
    made[1].set_weights(made[0].get_weights())
    return made[0], made[1]


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_equals_keras(compiled: bool, training: bool) -> None:
    """Outputs are those of Keras, and so are the gradients of inputs and weights, for sequences of several lengths."""
    import tensorflow as tf

    values = np.random.default_rng(1).normal(size=(4, 9, 7)).astype(np.float32)
    mask = tf.constant(np.arange(9) < np.array([9, 4, 1, 0])[:, None])

    def run(model: Any, inputs: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = model([inputs, mask], training=training)
            loss = tf.reduce_sum(outputs * tf.sin(tf.reshape(tf.range(9.0 * 4 * 10), (4, 9, 10))))
        return outputs, *tape.gradient(loss, [inputs, *model.trainable_variables])

    results = []
    for model in models():
        function = tf.function(lambda inputs, model=model: run(model, inputs), autograph=False) if compiled else None
        results.append((function or (lambda inputs, model=model: run(model, inputs)))(tf.constant(values)))
    assert len(results[0]) == 8
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-6, rtol=1e-5)


def test_saved_as_the_layer_of_keras() -> None:
    """The saved form is that of plain Keras, with the same paths of weights and outputs."""
    import keras

    model, plain = models()
    assert [weight.path for weight in model.weights] == [weight.path for weight in plain.weights]
    assert "aip" not in model.to_json()
    loaded = keras.models.model_from_json(model.to_json())
    assert type(loaded.get_layer("line")) is keras.layers.Bidirectional


def test_half_precision() -> None:
    """Under mixed precision, outputs have half precision, and the gradients of the weights do not."""
    import tensorflow as tf

    model, plain = models("mixed_bfloat16")
    given = np.random.default_rng(1).normal(size=(2, 4, 7)).astype(np.float32), np.ones((2, 4), bool)
    with tf.GradientTape() as tape:
        outputs = model(list(given), training=True)
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 2)
    assert outputs.dtype == tf.bfloat16
    assert {gradient.dtype for gradient in tape.gradient(loss, model.trainable_variables)} == {tf.float32}
    found, expected = (np.asarray(tf.cast(each, tf.float32)) for each in (outputs, plain(list(given))))
    np.testing.assert_allclose(found, expected, atol=0.03)
