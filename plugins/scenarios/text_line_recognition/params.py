"""Parameters of text line recognition."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from aipcore.params import above, at_least, between, field, fraction, group, params
from aipcore.scenario import ListFileData, ListFileParams, ModelParams


@params
class TextLineData(ListFileData):
    """Images of single lines, each with its text in a file of the same name that ends in `.gt.txt`."""

    height: int = field(32, help="Height of the scaled lines, in pixels.", check=between(16, 256))
    codec: Path | None = field(
        None,
        help="Text file with the alphabet, one character per line. By default, the alphabet of the training texts.",
        resource=True,
    )
    alphabet: str = field(
        "", help="Characters that the model can read, as one text. If empty, those of the codec or the training texts."
    )
    alphabet_mode: Literal["keep", "extend", "replace"] | None = field(
        None,
        help="Use of the alphabet of a warm start's model. keep: only it, so that training ignores other characters. "
        "extend: it and new characters after it. replace: not used. The new ones are those of the alphabet, the codec "
        "or the training texts. By default, an alphabet or codec replaces it, and training texts extend it.",
    )
    augment: bool = field(True, help="Stretch, shear, blur and add noise to training images.")
    printed_lines: int = field(
        3000,
        help="Training lines to render if no lists are given. Validation uses a tenth as many.",
        check=at_least(10),
    )
    printed_seed: int = field(1, help="Seed of the rendered lines.", check=at_least(0))


@params
class TextLineModel(ModelParams):
    """Convolutions that shrink the image, then a bidirectional LSTM along the line."""

    filters: tuple[int, ...] = field(
        (16, 32), help="Filters of each convolution. Each one halves height and width.", check=at_least(1)
    )
    units: int = field(64, help="Units of the LSTM in each direction.", check=at_least(1))
    dropout: float = field(0.2, help="Dropout rate of the LSTM's outputs. 0 disables it.", check=fraction())
    kernel_size: int = field(3, help="Height and width of each kernel, in pixels.", check=above(0))


@params
class TextLineParams(ListFileParams):
    """Parameters of text line recognition."""

    data: TextLineData = group(TextLineData, help="Images of text lines and the alphabet.")
    model: TextLineModel = group(TextLineModel, help="The network.")
