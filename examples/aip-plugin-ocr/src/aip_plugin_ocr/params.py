"""Parameters of the scenario `ocr`."""

from __future__ import annotations

from aip_plugins.scenarios.text_line_recognition.params import TextLineData, TextLineModel, TextLineParams

from aipcore.params import group, params


@params
class OCRData(TextLineData):
    """Lines of text and their preparation."""


@params
class OCRModel(TextLineModel):
    """The network."""


@params
class OCRParams(TextLineParams):
    """Parameters of text recognition."""

    data: OCRData = group(OCRData, help="Lines of text and their preparation.")
    model: OCRModel = group(OCRModel, help="The network.")
