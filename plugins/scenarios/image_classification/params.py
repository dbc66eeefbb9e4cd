"""Parameters of image classification."""

from __future__ import annotations

from typing import Literal

from aipcore.params import Choice, at_least, component, field, fraction, group, params
from aipcore.scenario import ListFileData, ListFileParams, ModelParams


@params
class ImageData(ListFileData):
    """Images whose class is the name of their folder."""

    height: int = field(16, help="Height in pixels that every image is scaled to.", check=at_least(4))
    width: int = field(16, help="Width in pixels that every image is scaled to.", check=at_least(4))
    colors: Literal["gray", "rgb"] = field("gray", help="Whether the network sees shades of grey or colours.")
    classes: tuple[str, ...] = field(
        (), help="The classes, in the order of the outputs; by default the names of the folders with training images."
    )
    flip: bool = field(False, help="Mirror images at random in training, left to right.")
    shift: float = field(
        0.05, help="Move images at random in training, by up to this fraction of their size.", check=fraction()
    )
    rotate: float = field(5.0, help="Turn images at random in training, by up to so many degrees.", check=at_least(0))
    contrast: float = field(
        0.1, help="Change the contrast at random in training, by up to this fraction.", check=fraction()
    )


@params
class GraphParams:
    """Parameters of every network for images."""

    dropout: float = field(0.2, help="Fraction of the last features that are dropped in training.", check=fraction())


@params
class CNN(GraphParams):
    """Convolutions, each followed by batch normalisation and pooling."""

    filters: tuple[int, ...] = field((16, 32, 64), help="Filters of each convolution.", check=at_least(1))
    kernel_size: int = field(3, help="Height and width of each convolution, in pixels.", check=at_least(1))


@params
class ResNet(GraphParams):
    """Residual blocks of two convolutions (He et al., "Deep Residual Learning for Image Recognition", 2016)."""

    filters: tuple[int, ...] = field(
        (16, 32, 64),
        help="Filters of each stage; every stage but the first halves height and width.",
        check=at_least(1),
    )
    blocks: int = field(1, help="Residual blocks in each stage.", check=at_least(1))


@params
class ImageModel(ModelParams):
    """The network."""

    graph: Choice[GraphParams] = component(
        {"CNN": CNN, "ResNet": ResNet}, default="CNN", help="The network's architecture."
    )


@params
class ImageParams(ListFileParams):
    """Parameters of image classification."""

    data: ImageData = group(ImageData, help="Which images to tell apart.")
    model: ImageModel = group(ImageModel, help="The network.")
