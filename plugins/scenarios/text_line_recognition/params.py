"""Parameters of text line recognition."""

from __future__ import annotations

from pathlib import Path

from aipcore.params import above, at_least, between, field, fraction, group, params
from aipcore.scenario import ListFileData, ListFileParams, ModelParams


@params
class TextLineData(ListFileData):
    """Images of single lines, each with its text in a file of the same name that ends in `.gt.txt`."""

    height: int = field(32, help="Height in pixels that every line is scaled to.", check=between(16, 256))
    codec: Path | None = field(
        None,
        help="Text file with the characters that can be read, one a line; by default those of the training texts.",
        resource=True,
    )
    alphabet: str = field(
        "", help="The characters that can be read, as one text; found in the training texts or the codec if empty."
    )
    augment: bool = field(True, help="Stretch, shear, blur and add noise to the images in training.")
    printed_lines: int = field(
        3000, help="Training lines to print if no lists are given; a tenth as many for validation.", check=at_least(10)
    )
    printed_seed: int = field(1, help="Seed of the printed lines.", check=at_least(0))


@params
class TextLineModel(ModelParams):
    """Convolutions that shrink the image, then a bidirectional LSTM along the line."""

    filters: tuple[int, ...] = field(
        (16, 32), help="Filters of each convolution; each halves height and width.", check=at_least(1)
    )
    units: int = field(64, help="Units of the LSTM in each direction.", check=at_least(1))
    dropout: float = field(0.2, help="Fraction of the LSTM's outputs that are dropped in training.", check=fraction())
    kernel_size: int = field(3, help="Height and width of each convolution, in pixels.", check=above(0))


@params
class TextLineParams(ListFileParams):
    """Parameters of text line recognition."""

    data: TextLineData = group(TextLineData, help="Which lines to learn to read.")
    model: TextLineModel = group(TextLineModel, help="The network.")
