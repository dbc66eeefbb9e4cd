"""The layers of a network, their text form, and the check of their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, Literal

from aipcore.errors import ParamsError
from aipcore.params import Choice, at_least, field, fraction, params

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid", "linear"]


@params
class Conv:
    """Convolution of an image. The edges are padded with zeros."""

    filters: int = field(40, help="Number of filters.", check=at_least(1))
    kernel_size: tuple[int, int] = field((3, 3), help="Width and height of the kernel, in pixels.", check=at_least(1))
    strides: tuple[int, int] = field((1, 1), help="Steps along width and height, in pixels.", check=at_least(1))
    activation: Activation = field("relu", help="Activation function.")


@params
class Pool:
    """Maximum of each window of an image. A window that crosses an edge counts."""

    size: tuple[int, int] = field((2, 2), help="Width and height of the windows, in pixels.", check=at_least(1))
    strides: tuple[int, int] | None = field(
        None, help="Steps along width and height, in pixels. By default, the size of the windows.", check=at_least(1)
    )

    @property
    def steps(self) -> tuple[int, int]:
        """The strides."""
        return self.strides or self.size


@params
class Recurrent:
    """A recurrent layer along the line."""

    units: int = field(200, help="Number of units in each direction.", check=at_least(1))
    bidirectional: bool = field(True, help="Read the line in both directions.")


@params
class LSTM(Recurrent):
    """LSTM along the line."""


@params
class GRU(Recurrent):
    """GRU along the line."""


@params
class Dense:
    """Fully connected layer, applied to each step of the line."""

    units: int = field(100, help="Number of units.", check=at_least(1))
    activation: Activation = field("relu", help="Activation function.")


@params
class Dropout:
    """Dropout in training."""

    rate: float = field(0.5, help="Fraction of the values that are set to 0.", check=fraction())


@params
class BatchNorm:
    """Batch normalization of each feature, without the padding of the batch."""

    momentum: float = field(0.99, help="Momentum of the moving averages.", check=fraction())


LAYERS: Mapping[str, type] = {each.__name__: each for each in (Conv, Pool, LSTM, GRU, Dense, Dropout, BatchNorm)}


def _pair(text: str) -> tuple[int, int]:
    first, second = map(int, text.split("x"))
    return first, second


VALUES: Mapping[str, Mapping[str, Callable[[str], Any]]] = {
    "Conv": {"filters": int, "kernel_size": _pair, "strides": _pair},
    "Pool": {"size": _pair, "strides": _pair},
    "LSTM": {"units": int},
    "GRU": {"units": int},
    "Dense": {"units": int},
    "Dropout": {"rate": float},
    "BatchNorm": {},
}
"""The parameters that the text form of each layer can contain, in this order, with their parsers."""

DEFAULT = (
    Choice("Conv", Conv(filters=40)),
    Choice("Pool", Pool()),
    Choice("Conv", Conv(filters=60)),
    Choice("Pool", Pool()),
    Choice("LSTM", LSTM()),
    Choice("Dropout", Dropout()),
)
"""The default network of Calamari."""

FORMS = {
    "Conv": "conv=FILTERS:WIDTHxHEIGHT or conv=FILTERS:WIDTHxHEIGHT:STRIDExSTRIDE",
    "Pool": "pool=WIDTHxHEIGHT or pool=WIDTHxHEIGHT:STRIDExSTRIDE",
    "LSTM": "lstm=UNITS",
    "GRU": "gru=UNITS",
    "Dense": "dense=UNITS",
    "Dropout": "dropout=RATE",
    "BatchNorm": "batchnorm",
}

EXAMPLE = "conv=40:3x3,pool=2x2,lstm=200,dropout=0.5"


def parse_layers(value: Any) -> Any:
    """Return the layers of a text such as `conv=40:3x3,pool=2x2,lstm=200`. All other values are returned unchanged.

    Raises:
        ParamsError: a layer is unknown or has a value that is not allowed.
    """
    if not isinstance(value, str) or not {"=", ","} & set(value):
        return value
    return [_parse_layer(part.strip()) for part in value.split(",")]


def _parse_layer(text: str) -> Choice[Any]:
    name, equals, values = text.partition("=")
    known = next((each for each in LAYERS if each.casefold() == name.casefold()), None)
    if known is None:
        names = ", ".join(LAYERS).lower()
        raise ParamsError(f"{text!r} is not a layer. Write a network as {EXAMPLE}. The layers are {names}.")
    given, parsers = values.split(":") if equals else [], VALUES[known]
    try:
        if len(given) > len(parsers):
            raise ValueError
        parsed = {each: parsers[each](word) for each, word in zip(parsers, given, strict=False)}
    except ValueError:
        raise ParamsError(f"{text} is not allowed. Write {FORMS[known]}. Further parameters are options.") from None
    return Choice(known, LAYERS[known](**parsed))


def check_layers(layers: Sequence[Choice[Any]], height: int) -> None:
    """Check that each layer can process the output of the layer before it.

    Args:
        layers: the layers.
        height: height of the images.

    Raises:
        ParamsError: a layer for images follows one that returns a sequence, or is too large for its image.
    """
    sequence = ""
    for number, layer in enumerate(layers, 1):
        here = f"--model.layers: layer {number}, {layer.name},"
        match layer.params:
            case Conv() | Pool() if sequence:
                raise ParamsError(
                    f"{here} needs an image, but {sequence} returns a sequence without height. Move it before "
                    "all recurrent and dense layers."
                )
            case Conv(strides=(_, step)):
                height = _divided(height, step, step, here)
            case Pool(size=(_, window), steps=(_, step)):
                height = _divided(height, max(window, step), step, here)
            case Recurrent() | Dense():
                sequence = sequence or f"layer {number}, {layer.name},"


def _divided(height: int, needed: int, step: int, here: str) -> int:
    if needed > height:
        raise ParamsError(
            f"{here} needs a height of {needed} pixels, but its input has {height}. Reduce the height less, or set a "
            "greater --data.height."
        )
    return -(-height // step)


def stride_of(layers: Sequence[Choice[Any]]) -> int:
    """Return the number of pixels of a line per step of the output."""
    steps = [each.params.strides[0] for each in layers if isinstance(each.params, Conv)]
    return prod([*steps, *(each.params.steps[0] for each in layers if isinstance(each.params, Pool))])
