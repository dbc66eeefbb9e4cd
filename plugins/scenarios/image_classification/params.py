"""Parameters of image classification."""

from __future__ import annotations

from typing import Any, Literal

from aip_plugins.scenarios.pretrained.params import Application, KerasHub

from aipcore.params import Choice, at_least, between, component, field, fraction, group, params
from aipcore.scenario import ListFileData, ListFileParams, ModelParams


@params
class ImageData(ListFileData):
    """Images whose class is the name of their folder."""

    height: int = field(16, help="Height of the scaled images, in pixels.", check=at_least(4))
    width: int = field(16, help="Width of the scaled images, in pixels.", check=at_least(4))
    colors: Literal["gray", "rgb"] = field("gray", help="Color mode of the images.")
    classes: tuple[str, ...] = field(
        (), help="Class names, in the order of the outputs. By default, the names of the folders with training images."
    )
    flip: bool = field(False, help="Mirror training images left to right at random.")
    shift: float = field(
        0.05,
        help="Largest random shift, as a fraction of the image size. Only training images are shifted. 0 disables it.",
        check=fraction(),
    )
    rotate: float = field(
        5.0, help="Largest random rotation of training images, in degrees. 0 disables it.", check=at_least(0)
    )
    contrast: float = field(
        0.1,
        help="Largest random change of contrast, as a fraction. Only training images are changed. 0 disables it.",
        check=fraction(),
    )
    crop: float = field(
        1.0,
        help="Smallest area of random crops, as a fraction. In each epoch, another part of a training image is scaled. "
        "Its proportions differ by up to 4:3. 0.35 is common for photographs. 1 disables it.",
        check=between(0.01, 1),
    )
    erase: float = field(
        0.0,
        help="Probability of random erasing. It makes a rectangle of a training image gray. 0.25 is common. 0 disables "
        "it.",
        check=between(0, 1),
    )
    top_k: tuple[int, ...] = field(
        (),
        help="Further accuracies, such as 3 5. They count a class as right if it is among the K most probable ones.",
        check=at_least(2),
    )


@params
class GraphParams:
    """Parameters of every network for images."""

    dropout: float = field(0.2, help="Dropout rate of the last features. 0 disables it.", check=fraction())


@params
class CNN(GraphParams):
    """Convolutions, each followed by batch normalization and pooling."""

    filters: tuple[int, ...] = field((16, 32, 64), help="Filters of each convolution.", check=at_least(1))
    kernel_size: int = field(3, help="Height and width of each kernel, in pixels.", check=at_least(1))


@params
class ResNet(GraphParams):
    """Residual blocks of two convolutions (He et al., "Deep Residual Learning for Image Recognition", 2016)."""

    filters: tuple[int, ...] = field(
        (16, 32, 64),
        help="Filters of each stage. Every stage but the first halves height and width.",
        check=at_least(1),
    )
    blocks: int = field(1, help="Residual blocks in each stage.", check=at_least(1))


@params
class ImageModel(ModelParams):
    """The network."""

    graph: Choice[Any] = component(
        {"CNN": CNN, "ResNet": ResNet, "Application": Application, "KerasHub": KerasHub},
        default="CNN",
        help="Architecture of the network.",
    )


@params
class ImageParams(ListFileParams):
    """Parameters of image classification."""

    data: ImageData = group(ImageData, help="Images and their classes.")
    model: ImageModel = group(ImageModel, help="The network.")
