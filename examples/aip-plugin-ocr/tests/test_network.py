"""Networks by specification: the text form, the check of the order, and outputs that do not depend on the padding."""

import numpy as np
import pytest
from aip_plugin_ocr.network.layers import DEFAULT, stride_of
from aip_plugin_ocr.params import OCRData, OCRModel, OCRParams
from aip_plugin_ocr.scenario import OCR
from aip_plugins.scenarios.text_line_recognition.params import TextLineModel

from aipcore.errors import AipError
from aipcore.params import Choice, Layer, from_dict, resolve, to_dict, to_yaml

CLASSES = 5
HEIGHT = 12


def layers_of(text):
    """Return the layers of a text."""
    return OCRModel(layers=text).layers


def network(text, height=HEIGHT, build=None):
    """Return a model of images and widths."""
    import keras
    from aip_plugin_ocr.network.build import logits

    keras.utils.set_random_seed(3)
    image = keras.Input((None, height, 1), name="image")
    width = keras.Input((1,), dtype="int32", name="width")
    outputs = logits(image, width, layers_of(text), CLASSES) if build is None else build(image, width)
    return keras.Model([image, width], outputs)


def lines(widths, total, height=HEIGHT, seed=0):
    """Return a batch of random lines with a total width; a line is the same in each batch."""
    image = np.zeros((len(widths), total, height, 1), np.float32)
    for row, width in enumerate(widths):
        image[row, :width] = np.random.default_rng([seed, width]).normal(size=(width, height, 1))
    return [image, np.array(widths, np.int32)[:, None]]


def test_default():
    """The default is the text of Calamari's default network, and the same list by names and options."""
    text = "conv=40:3x3,pool=2x2,conv=60:3x3,pool=2x2,lstm=200,dropout=0.5"
    assert OCRModel().layers == DEFAULT == layers_of(text)
    words = ["--model.layers", "Conv", "Pool", "Conv", "Pool", "LSTM", "Dropout", "--model.layers.3.filters", "60"]
    for line in (["--model.layers", text], words, ["--model.layers", text.replace(",", ", ")]):
        done = resolve(OCRParams, [Layer.from_arguments(line)])
        assert done.value.model.layers == DEFAULT
    assert from_dict(OCRParams, to_dict(done.value)) == done.value
    assert "- name: Conv" in to_yaml(done.tree)


def test_values():
    """A text sets the main parameters of each layer; names ignore case, and the others keep their defaults."""
    found = layers_of("CONV=8:5x3:2x1,pool=3x2:1x2,pool,gru=7,dense=9,BatchNorm,LSTM=4")
    plain = [{"name": each.name, **to_dict(each.params)} for each in found]
    assert [each["name"] for each in plain] == ["Conv", "Pool", "Pool", "GRU", "Dense", "BatchNorm", "LSTM"]
    assert plain[0] == {"name": "Conv", "filters": 8, "kernel_size": [5, 3], "strides": [2, 1], "activation": "relu"}
    assert plain[1] == {"name": "Pool", "size": [3, 2], "strides": [1, 2]}
    assert plain[2] == {"name": "Pool", "size": [2, 2], "strides": None}
    assert (plain[3]["units"], plain[4]["units"], plain[6]["units"]) == (7, 9, 4)
    assert stride_of(found) == 2 * 1 * 2
    words = ["--model.layers", "conv=4:3x3,conv=5:3x3", "--model.layers.2.activation", "tanh"]
    done = resolve(OCRParams, [Layer.from_arguments(words)]).value.model.layers
    assert [(each.params.filters, each.params.activation) for each in done] == [(4, "relu"), (5, "tanh")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("cnov=40:3x3", "'cnov=40:3x3' is not a layer. Write a network as conv=40:3x3,pool=2x2,lstm=200,dropout=0.5."),
        ("conv=40:3y3", "conv=40:3y3 is not allowed. Write conv=FILTERS:WIDTHxHEIGHT or"),
        ("conv=40:3", "conv=40:3 is not allowed. Write conv=FILTERS:WIDTHxHEIGHT or"),
        ("conv=0:3x3", "Conv.filters = 0 is not allowed. It must be at least 1."),
        ("lstm=2.5", "lstm=2.5 is not allowed. Write lstm=UNITS. Further parameters are options."),
        ("lstm=200:3", "lstm=200:3 is not allowed. Write lstm=UNITS."),
        ("batchnorm=1", "batchnorm=1 is not allowed. Write batchnorm."),
        ("dropout=2", "Dropout.rate = 2.0 is not allowed."),
        ("conv=4,", "'' is not a layer."),
    ],
)
def test_wrong_texts(text, sentence):
    """The error names the layer, on the command line and in Python."""
    with pytest.raises(AipError) as caught:
        resolve(OCRParams, [Layer.from_arguments(["--model.layers", text])])
    assert str(caught.value).startswith("--model.layers: ")
    assert sentence in str(caught.value)
    with pytest.raises(AipError):
        OCRModel(layers=text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("lstm=8,conv=4:3x3", "layer 2, Conv, needs an image, but layer 1, LSTM, returns a sequence without height."),
        ("conv=4:3x3,dense=4,dropout=0.1,pool=2x2", "layer 4, Pool, needs an image, but layer 2, Dense,"),
        (",".join(["pool=2x2"] * 5), "layer 5, Pool, needs a height of 2 pixels, but its input has 1."),
        ("pool=1x17", "layer 1, Pool, needs a height of 17 pixels, but its input has 16."),
        ("conv=4:3x3:1x20", "layer 1, Conv, needs a height of 20 pixels, but its input has 16."),
    ],
)
def test_impossible_networks(text, sentence):
    """A network that cannot be built is refused with its parameters."""
    params = OCRParams(model=OCRModel(layers=text), data=OCRData(height=16, alphabet="ab"))
    with pytest.raises(AipError) as caught:
        OCR(params).check()
    assert sentence in str(caught.value)


def test_same_as_the_shipped_network():
    """The default has the outputs of `text_line_recognition` with the same sizes and weights."""
    from aip_plugins.scenarios.text_line_recognition.network import logits

    params = TextLineModel(filters=(4, 6), units=5, dropout=0.5, kernel_size=3)
    shipped = network("", build=lambda image, width: logits(image, width, params, CLASSES))
    own = network("conv=4:3x3,pool=2x2,conv=6:3x3,pool=2x2,lstm=5,dropout=0.5")
    assert [each.shape for each in own.weights] == [each.shape for each in shipped.weights]
    assert own.weights[4].path == "lstm_1/forward_lstm/lstm_cell/kernel"
    own.set_weights(shipped.get_weights())
    # Both pad each line to whole steps.
    for widths, total in (([16, 8, 28], 28), ([4, 12], 12)):
        batch = lines(widths, total)
        np.testing.assert_allclose(own(batch), shipped(batch), rtol=1e-5, atol=1e-6)


SPECIFICATIONS = [
    "conv=4:3x3,pool=2x2,conv=6:3x3,pool=2x2,lstm=5,dropout=0.5",
    "conv=3:3x3:2x2,lstm=4",
    "conv=3:4x2:3x1,pool=3x3:2x2,gru=4",
    "pool=3x3,conv=3:5x1:2x1,dense=4,lstm=3",
    "batchnorm,conv=3:2x2,batchnorm,pool=3x2:1x2,dropout=0.2,batchnorm,gru=3,batchnorm",
    "conv=3:3x3,pool=3x2,conv=2:5x3,pool=2x1,pool=2x2,pool=1x2:3x1",
]


@pytest.mark.parametrize("text", SPECIFICATIONS)
def test_padding(text):
    """A line has the same steps in every batch. After its end, only the blank is possible."""
    model = network(text)
    _randomize(model)
    stride = stride_of(layers_of(text))
    widths = [7, 8, 13]
    outputs = [np.asarray(model(lines(widths, total))) for total in (13, 14, 18)]
    for row, width in enumerate(widths):
        steps = -(-width // stride)
        alone = np.asarray(model(lines([width], width)))[0]
        assert len(alone) == steps
        for each in outputs:
            np.testing.assert_allclose(each[row, :steps], alone, rtol=1e-4, atol=1e-5)
            assert (each[row, steps:, 0] == 1e4).all()
            assert (each[row, steps:, 1:] == 0).all()


@pytest.mark.parametrize("activation", ["tanh", "linear", "sigmoid"])
def test_padding_with_negative_values(activation):
    """Pooling ignores the padding, also if all values of a window are negative."""
    listed = [Choice(each.name, each.params) for each in layers_of("conv=3:3x3,pool=2x2,pool=3x3:2x2")]
    listed[0] = Choice("Conv", type(listed[0].params)(filters=3, activation=activation))
    model = network(listed)
    _randomize(model)
    alone = np.asarray(model(lines([9], 9)))[0]
    np.testing.assert_allclose(np.asarray(model(lines([9, 13], 14)))[0, : len(alone)], alone, rtol=1e-4, atol=1e-5)


def test_training_does_not_see_the_padding():
    """Batch normalization has the mean and deviation of the true pixels in training, and gradients are the same."""
    import tensorflow as tf

    model = network("conv=3:3x3:2x1,batchnorm,pool=2x2,lstm=3")
    found = []
    for total in (11, 14, 21):
        batch = lines([7, 11], total)
        before = model.get_weights()
        with tf.GradientTape() as tape:
            outputs = model(batch, training=True)
            loss = tf.reduce_sum(outputs[:, :3, 1:] ** 2)
        gradients = tape.gradient(loss, model.trainable_weights)
        found.append([*map(np.asarray, gradients), *model.get_weights()])
        model.set_weights(before)
    for each in found[1:]:
        for one, other in zip(each, found[0], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_first_windows():
    """A strided convolution and a pooling have the windows that NumPy gives, from pixel n times the stride."""
    model = network("conv=1:3x1:2x1", height=1)
    kernel = np.array([1.0, 10.0, 100.0], np.float32)
    dense = np.eye(1, CLASSES, 1, dtype=np.float32)
    model.set_weights([kernel[:, None, None, None], np.zeros(1, np.float32), dense, np.zeros(CLASSES, np.float32)])
    image = np.arange(1, 9, dtype=np.float32)
    expected = [np.pad(image, (0, 1))[2 * step : 2 * step + 3] @ kernel for step in range(4)]
    batch = [image[None, :, None, None], np.array([[8]], np.int32)]
    np.testing.assert_allclose(model(batch)[0, :, 1], expected)
    model = network("pool=3x1:2x1", height=1)
    model.set_weights([-dense, np.zeros(CLASSES, np.float32)])
    image = -image[::-1].copy()
    windows = [image[2 * step : 2 * step + 3].max() for step in range(4)]
    np.testing.assert_allclose(model([image[None, :, None, None], batch[1]])[0, :, 1], -np.array(windows))


@pytest.mark.parametrize(
    ("text", "height", "count"),
    [
        # Convolutions of 1 and 40 channels; 2 directions with 4 gates of inputs 60 * 12, 200 units and bias; classes.
        (
            "conv=40:3x3,pool=2x2,conv=60:3x3,pool=2x2,lstm=200,dropout=0.5",
            48,
            (9 + 1) * 40 + (40 * 9 + 1) * 60 + 2 * 4 * (60 * 12 + 200 + 1) * 200 + (400 + 1) * CLASSES,
        ),
        # Keras's GRU has two biases per gate.
        ("pool=1x3,gru=7", 12, 2 * 3 * (4 + 7 + 2) * 7 + (14 + 1) * CLASSES),
        # A height of 9 is halved to 5; batch normalization has 2 trained and 2 averaged values per channel.
        ("conv=3:5x2:1x2,batchnorm,dense=11", 9, (10 + 1) * 3 + 4 * 3 + (15 + 1) * 11 + (11 + 1) * CLASSES),
    ],
)
def test_parameter_counts(text, height, count):
    """The number of weights is the one computed by hand."""
    assert network(text, height).count_params() == count


def _randomize(model):
    """Set all weights, statistics included, to random values; deviations stay positive."""
    generator = np.random.default_rng(5)
    for weight in model.weights:
        values = generator.normal(0, 0.5, weight.shape).astype(np.float32)
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.path else values)
