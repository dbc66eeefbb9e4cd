"""Parameters of the scenario `ocr`."""

from __future__ import annotations

from typing import Any

from aip_plugins.scenarios.text_line_recognition.params import TextLineData, TextLineParams

from aip_plugin_ocr.network.layers import DEFAULT, LAYERS, parse_layers
from aipcore.params import Choice, components, group, params
from aipcore.scenario import ModelParams


@params
class OCRData(TextLineData):
    """Lines of text and their preparation."""


@params
class OCRModel(ModelParams):
    """The network."""

    layers: tuple[Choice[Any], ...] = components(
        LAYERS,
        default=DEFAULT,
        repeat=True,
        convert=parse_layers,
        help="Layers of the network in order. A text is allowed too: conv=40:3x3,pool=2x2,lstm=200,dropout=0.5.",
    )


@params
class OCRParams(TextLineParams):
    """Parameters of text recognition."""

    data: OCRData = group(OCRData, help="Lines of text and their preparation.")
    model: OCRModel = group(OCRModel, help="The network.")
