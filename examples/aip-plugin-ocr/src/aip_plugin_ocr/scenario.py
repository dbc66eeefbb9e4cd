"""The scenario of text recognition."""

from __future__ import annotations

from aip_plugins.scenarios.text_line_recognition.scenario import TextLineRecognition

from aip_plugin_ocr.params import OCRParams


class OCR(TextLineRecognition):
    """Recognizes lines of text in images, PageXML, ALTO and HDF5 files. Without lists, it trains on rendered lines."""

    params_class = OCRParams
    params: OCRParams
