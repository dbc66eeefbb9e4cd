"""Fused batch normalisation against the layer of Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from aipcore.scenario import Scenario
from aipcore.training.engine.batch_normalization import use_fused_kernels

IMAGES = np.random.default_rng(0).normal(3, 2, (24, 6, 5, 4)).astype(np.float32)
LABELS = (IMAGES.mean((1, 2, 3)) > 3).astype(np.int32)


def network(**options):
    """Return a network with a layer of random weights and statistics."""
    keras.utils.set_random_seed(3)
    x = keras.Input(IMAGES.shape[1:])
    y = keras.layers.BatchNormalization(name="normalised", **options)(x)
    model = keras.Model(x, keras.layers.Dense(2)(keras.layers.Flatten()(keras.layers.Activation("tanh")(y))))
    layer = model.get_layer("normalised")
    generator = np.random.default_rng(1)
    layer.set_weights([generator.uniform(0.5, 1.5, each.shape) for each in layer.weights])
    return model, layer


def step(model, images):
    """Return outputs, the gradients of the inputs and of the weights, and the new moving statistics."""
    images = tf.constant(images)

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = model(images, training=True)
            loss = tf.reduce_sum(outputs**2)
        return outputs, *tape.gradient(loss, [images, *model.trainable_variables])

    return [*(each.numpy() for each in run()), *(each.numpy() for each in model.non_trainable_variables)]


@pytest.mark.parametrize(
    "options",
    [{}, {"scale": False, "momentum": 0.7}, {"center": False, "epsilon": 0.1}, {"dtype": "mixed_bfloat16"}],
    ids=["default", "no scale", "no offset", "bfloat16"],
)
def test_equals_keras(options):
    """Outputs, gradients and moving statistics of a training step are those of Keras."""
    (expected, layer), (fused, own) = network(**options), network(**options)
    use_fused_kernels(fused)
    assert "call" in vars(own)
    tolerance = 0.05 if "dtype" in options else 1e-5
    for ours, theirs in zip(step(fused, IMAGES), step(expected, IMAGES), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * np.abs(theirs).max())
    assert own.get_config() == layer.get_config()


def test_statistics_of_a_few_values():
    """The variance is that of the batch, not its unbiased estimate, also of two values and of one."""
    for images in (IMAGES[:2, :1, :1], IMAGES[:1, :1, :1]):
        keras.utils.set_random_seed(3)
        x = keras.Input((1, 1, 4))
        layer = keras.layers.BatchNormalization(momentum=0.0)
        model = keras.Model(x, layer(x))
        use_fused_kernels(model)
        model(images, training=True)
        np.testing.assert_allclose(layer.moving_variance, images.var((0, 1, 2)), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(layer.moving_mean, images.mean((0, 1, 2)), rtol=1e-5)


@pytest.mark.parametrize("case", ["frozen", "inference"])
def test_inference_is_that_of_keras(case):
    """A frozen layer and inference use the moving statistics, bit for bit as in Keras."""
    (expected, layer), (fused, own) = network(), network()
    use_fused_kernels(fused)
    layer.trainable = own.trainable = case == "inference"
    training = case == "frozen"
    np.testing.assert_array_equal(fused(IMAGES, training=training), expected(IMAGES, training=training))


def test_left_to_keras():
    """Other axes, types and ranks, subclasses, renormalisation and small epsilons are computed by Keras."""

    class Own(keras.layers.BatchNormalization):
        pass

    layers = [
        keras.layers.BatchNormalization(axis=1),
        keras.layers.BatchNormalization(renorm=True),
        keras.layers.BatchNormalization(epsilon=1e-6),
        keras.layers.BatchNormalization(dtype="float64"),
        keras.layers.BatchNormalization(dtype="bfloat16"),
        Own(),
    ]
    x = y = keras.Input(IMAGES.shape[1:])
    for layer in layers:
        y = layer(y)
    dense = keras.layers.BatchNormalization()
    use_fused_kernels(keras.Model(x, dense(keras.layers.Flatten()(y))))
    assert not any("call" in vars(layer) for layer in [*layers, dense])


def test_integers_are_left_to_keras():
    """The first layer of a network may take the bytes of images, which the kernel does not."""
    x = keras.Input((2, 2, 1), dtype="uint8")
    layer = keras.layers.BatchNormalization(momentum=0.0)
    model = keras.Model(x, layer(x))
    use_fused_kernels(model)
    assert "call" in vars(layer)
    pixels = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)
    np.testing.assert_allclose(model(pixels, training=True).numpy().mean(), 0, atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, [5.25], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_gradients_of_gradients(dtype):
    """A penalty on gradients has the gradients of Keras, also behind other layers."""
    found = []
    for fuse in (False, True):
        keras.utils.set_random_seed(3)
        x = keras.Input(IMAGES.shape[1:])
        y = keras.layers.Conv2D(3, 3, use_bias=False)(x)
        model = keras.Model(x, keras.layers.BatchNormalization(dtype=dtype)(y))
        if fuse:
            use_fused_kernels(model)
        images, weights = tf.constant(IMAGES), [each.value for each in model.trainable_variables]
        with tf.GradientTape() as outer:
            with tf.GradientTape() as tape:
                tape.watch(images)
                loss = tf.reduce_sum(tf.sin(tf.cast(model(images, training=True), tf.float32)))
            penalty = tf.reduce_sum(tape.gradient(loss, images) ** 2)
        found.append([each.numpy() for each in outer.gradient(penalty, weights)])
    tolerance = 1e-4 if dtype == "float32" else 0.05
    for ours, theirs in zip(found[1], found[0], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max())


class Images(Scenario):
    """A network with one convolution."""

    def train_data(self):
        return IMAGES, LABELS

    def build(self, inputs):
        x = keras.layers.Conv2D(3, 3, use_bias=False)(inputs)
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(keras.layers.BatchNormalization()(x)))
        return keras.layers.Dense(2)(x)

    def losses(self):
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def test_a_run_with_and_without(make_trainer):
    """A run gives the losses of Keras' layer, and the parameter leaves the layer to Keras."""
    words = ("--train.batch_size", "8", "--trainer.epochs", "3")
    plain = make_trainer(Images, *words, "--trainer.fused_kernels", "false")
    fused = make_trainer(Images, *words)
    flags = ["call" in vars(layer) for each in (plain, fused) for layer in each.engine.graph.model.layers]
    assert sum(flags) == 1
    histories = [[row["loss"] for row in each.fit().history] for each in (plain, fused)]
    np.testing.assert_allclose(histories[1], histories[0], rtol=1e-5)


@pytest.mark.slow
def test_values_far_from_zero_under_xla(make_trainer):
    """Under XLA, which computes the fused kernel less exactly, values with a large mean train as with Keras' layer."""

    class Bright(Images):
        def train_data(self):
            return IMAGES + 5000, LABELS

        def build(self, inputs):
            x = keras.layers.BatchNormalization()(inputs)
            return keras.layers.Dense(2)(keras.layers.Flatten()(x))

    words = ("--train.batch_size", "8", "--trainer.jit_compile", "on", "--trainer.tune", "off")
    losses = [
        make_trainer(Bright, *words, "--trainer.fused_kernels", flag).fit().history[-1]["loss"]
        for flag in ("true", "false")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
