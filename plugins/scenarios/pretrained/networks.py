"""Pretrained networks: inputs to logits, float32 [batch, classes]. Their backbone has the path `backbone`."""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf
from aip_plugins.scenarios.pretrained.params import Application, KerasHub

from aipcore.errors import UsageError, sentence
from aipcore.params.names import nearest, one_of


def application_logits(images: Any, params: Application, classes: int) -> Any:
    """Return the logits of a network of `keras.applications` for images, float32 [batch, height, width, channels].

    Pixels are from 0 to 1. The preprocessing of the network is part of the model.

    Raises:
        UsageError: the network is unknown or takes other images, or its weights cannot be downloaded or read.
    """
    make = getattr(keras.applications, params.network, None)
    if not params.network[:1].isupper() or make is None:
        near = nearest(params.network, [name for name in dir(keras.applications) if name[0].isupper()])
        hint = f"Did you mean {one_of(near)}?" if near else "Use a name such as MobileNetV2 or EfficientNetV2B0."
        raise UsageError(f"keras.applications has no network {params.network!r}. {hint}")
    images = _colored(images)
    try:
        network = make(include_top=False, weights=params.weights, input_shape=images.shape[1:])
    except Exception as error:  # Errors of the network's size, of the download and of HDF5 are of many kinds.
        download = "Connect to the network for the first download, or pass --model.graph.weights FILE."
        remedy = download if "URL fetch" in str(error) else "Change --data.height and --data.width, or the weights."
        raise UsageError(
            f"The network {params.network} cannot be built for images of {images.shape[1]} x {images.shape[2]} pixels "
            f"with --model.graph.weights {params.weights or 'none'} ({sentence(error)}). {remedy}"
        ) from error
    network.name = "backbone"
    pixels = keras.layers.Rescaling(255.0, dtype="float32", name="pixels")(images)
    features = network(sys.modules[make.__module__].preprocess_input(pixels))
    features = keras.layers.GlobalAveragePooling2D(name="average")(features)
    features = keras.layers.Dropout(params.dropout, name="dropout")(features)
    return keras.layers.Dense(classes, name="classes", dtype="float32")(features)


def image_preset_logits(images: Any, params: KerasHub, classes: int) -> Any:
    """Return the logits of a preset for images, float32 [batch, height, width, channels] with pixels from 0 to 1.

    Raises:
        UsageError: the preset cannot be loaded.
    """
    import keras_hub

    converter = _loaded(keras_hub.layers.ImageConverter, params)
    scale, offset = (0 if value is None else value for value in (converter.scale, converter.offset))
    scale = keras.ops.convert_to_numpy(scale or 1.0) * 255.0
    scaled = keras.layers.Rescaling(scale.tolist(), offset, dtype="float32", name="pixels")(_colored(images))
    return _preset_logits(keras_hub.models.ImageClassifier, scaled, params, classes)


def text_preset_logits(tokens: Mapping[str, Any], params: KerasHub, classes: int) -> Any:
    """Return the logits of a preset for the outputs of its preprocessing.

    Raises:
        UsageError: the preset cannot be loaded, or takes fewer tokens.
    """
    import keras_hub

    length = next(iter(tokens.values())).shape[1]

    def check(backbone: Any) -> None:
        for layer in backbone._flatten_layers():
            if isinstance(layer, keras_hub.layers.PositionEmbedding) and layer.sequence_length < length:
                raise UsageError(
                    f"--model.graph.length {length} is more than the {layer.sequence_length} tokens that the preset "
                    "takes. Use a smaller number."
                )

    return _preset_logits(keras_hub.models.TextClassifier, tokens, params, classes, check)


def text_preset_preprocessing(params: KerasHub, length: int) -> Any:
    """Return the layer from texts to the tokens of a preset, int32 [batch, length], and their masks.

    Raises:
        UsageError: the preset cannot be loaded.
    """
    import keras_hub

    layer = _loaded(keras_hub.models.TextClassifierPreprocessor, params, sequence_length=length)
    if not isinstance(layer.tokenizer, keras_hub.tokenizers.SentencePieceTokenizer):
        return layer
    # Keras' clear_session() deletes the model of this operation, except that of a loaded SavedModel.
    module = tf.Module()
    module.layer = layer
    module.serve = tf.function(layer, input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False)
    with tempfile.TemporaryDirectory(prefix="aip-") as folder:
        tf.saved_model.save(module, folder, signatures=module.serve)
        return SentencePiece(folder, call_endpoint="serving_default")


class SentencePiece(keras.layers.TFSMLayer):
    """The preprocessing of a preset with a SentencePiece model."""


def _loaded(cls: Any, params: KerasHub, **arguments: Any) -> Any:
    try:
        return cls.from_preset(params.preset, **arguments)
    except Exception as error:  # Each source of presets has errors of its own.
        raise UsageError(
            f"--model.graph.preset {params.preset} cannot be used as a {cls.__name__} ({sentence(error)}). "
            "Check its name and the network, or pass a folder written by save_to_preset()."
        ) from error


def _preset_logits(
    task: Any, inputs: Any, params: KerasHub, classes: int, check: Callable[[Any], None] | None = None
) -> Any:
    model = _loaded(task, params, num_classes=classes, dropout=params.dropout, preprocessor=None, compile=False)
    backbone = model.backbone
    backbone.name = "backbone"
    if check is not None:
        check(backbone)
    if params.lora_rank:
        backbone.enable_lora(params.lora_rank)
        if not backbone._lora_enabled_layers:
            raise UsageError(
                f"--model.graph.lora_rank has no effect: {type(backbone).__name__} has no layers for LoRA. "
                "Leave the option out."
            )
    if params.gradient_checkpointing:
        checkpoint_blocks(backbone)
    # A call of the task itself would put all layers below it, and its fit() has steps of its own.
    outputs = keras.Model(model.input, model.output).call(_matched(inputs, model.input))
    return keras.layers.Activation("linear", dtype="float32", name="class")(outputs)


def _colored(images: Any) -> Any:
    """Return images with three channels, which pretrained networks take."""
    return images if images.shape[-1] == 3 else keras.ops.repeat(images, 3, axis=-1)


def _matched(inputs: Any, wanted: Any) -> Any:
    if not isinstance(wanted, Mapping):
        return inputs
    return {name: keras.ops.cast(inputs[name], tensor.dtype) for name, tensor in wanted.items()}


def checkpoint_blocks(backbone: Any) -> None:
    """Recompute the activations of each block of a backbone in the backward pass, instead of keeping them.

    Not with `keras.RematScope`: under TensorFlow, it fails for layers that take keyword arguments, as encoders take
    `training`. `keras.remat` alone would draw other dropout masks in the backward pass.

    Raises:
        UsageError: the backbone has no blocks, which are layers that contain layers.
    """
    blocks = [layer for layer in backbone.layers if layer._flatten_layers(include_self=False)]
    if not blocks:
        raise UsageError(
            f"--model.graph.gradient_checkpointing has no effect on {type(backbone).__name__}, which has no blocks of "
            "layers. Leave the option out."
        )
    for block in blocks:
        block.call = _recomputed(block)


def _recomputed(block: Any) -> Any:
    call = block.call
    layers = list(block._flatten_layers())
    # Seeds, and statistics such as those of batch normalization.
    states = [each.state for layer in layers for each in layer._seed_generators]
    states += [each for layer in layers for each in layer._non_trainable_variables]

    @functools.wraps(call)
    def recomputed(*args: Any, **kwargs: Any) -> Any:
        if not kwargs.get("training"):
            return call(*args, **kwargs)
        given = keras.tree.flatten((args, kwargs))
        places = [at for at, each in enumerate(given) if keras.ops.is_tensor(each) and each.dtype.is_floating]
        before = [tf.identity(state.value) for state in states]

        def run(*tensors: Any) -> Any:
            for state, value in zip(states, before, strict=True):
                state.assign(value)
            filled = list(given)
            for at, tensor in zip(places, tensors, strict=True):
                filled[at] = tensor
            inner_args, inner_kwargs = keras.tree.pack_sequence_as((args, kwargs), filled)
            return call(*inner_args, **inner_kwargs)

        return keras.remat(run)(*(given[at] for at in places))

    return recomputed
