"""Parameters of the scenario `ocr`."""

from __future__ import annotations

from aip_plugins.scenarios.text_line_recognition.params import TextLineData, TextLineModel, TextLineParams

from aip_plugin_ocr.decoding.params import DECODERS, BeamSearch, BestPath
from aipcore.params import Choice, component, group, params


@params
class OCRData(TextLineData):
    """Lines of text and their preparation."""

    decoder: Choice[BestPath | BeamSearch] = component(
        DECODERS, default="best_path", help="Decoder of the outputs. aip lav and aip predict can change it."
    )


@params
class OCRModel(TextLineModel):
    """The network."""


@params
class OCRParams(TextLineParams):
    """Parameters of text recognition."""

    data: OCRData = group(OCRData, help="Lines of text and their preparation.")
    model: OCRModel = group(OCRModel, help="The network.")
