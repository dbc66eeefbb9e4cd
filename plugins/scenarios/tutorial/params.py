"""Parameters of the tutorial."""

from __future__ import annotations

from typing import Literal

from aipcore.params import Choice, at_least, between, component, field, fraction, group, params
from aipcore.scenario import DataParams, ModelParams, ScenarioParams


@params
class TutorialData(DataParams):
    """Parameters of the images."""

    dataset: Literal["digits", "mnist", "fashion_mnist"] = field(
        "digits",
        help="Images to train on. digits is included in aip (1,797 images of 8x8). Keras downloads the others once.",
    )
    shift: int = field(
        0,
        help="Largest random shift of training images, in pixels. It differs in each epoch. 0 disables it.",
        check=between(0, 7),
    )
    files: tuple[str, ...] = field(
        (),
        help="Images for aip predict, white on black. Not used in training. Give paths, folders, or patterns such as "
        "'scans/*.png'. Files are PNG or similar, or .npy arrays (floats from 0 to 1, integers from 0 to 255, uint16 "
        "from 0 to 65535).",
    )


@params
class GraphParams:
    """Parameters of every network of the tutorial."""

    dropout: float = field(0.0, help="Dropout rate of the last hidden layer. 0 disables it.", check=fraction())


@params
class MLP(GraphParams):
    """Fully connected layers."""

    units: tuple[int, ...] = field((128,), help="Units of each hidden layer.", check=at_least(1))


@params
class CNN(GraphParams):
    """Convolutions, each followed by pooling, and one fully connected layer."""

    filters: tuple[int, ...] = field((32, 64), help="Filters of each convolution.", check=at_least(1))
    kernel_size: int = field(3, help="Height and width of each kernel, in pixels.", check=at_least(1))
    units: int = field(128, help="Units of the fully connected layer.", check=at_least(1))
    dropout: float = field(0.25, help="Dropout rate of the last hidden layer. 0 disables it.", check=fraction())


@params
class TutorialModel(ModelParams):
    """The network."""

    graph: Choice[GraphParams] = component({"MLP": MLP, "CNN": CNN}, default="MLP", help="Architecture of the network.")


@params
class TutorialParams(ScenarioParams):
    """Parameters of the tutorial."""

    data: TutorialData = group(TutorialData, help="Images and their augmentation.")
    model: TutorialModel = group(TutorialModel, help="The network.")
