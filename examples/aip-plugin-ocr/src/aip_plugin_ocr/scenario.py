"""The scenario of text recognition."""

from __future__ import annotations

from aip_plugins.scenarios.text_line_recognition.scenario import TextLineRecognition

from aip_plugin_ocr.params import OCRParams
from aipcore.scenario import Evaluator


class OCR(TextLineRecognition):
    """Recognizes lines of text in images, PageXML, ALTO and HDF5 files. Without lists, it trains on rendered lines."""

    params_class = OCRParams
    params: OCRParams

    def evaluator(self) -> Evaluator:
        """Return the evaluator for error rates, the worst lines, frequent errors, and error rates by length."""
        from aip_plugin_ocr.reports.evaluator import ReportingEvaluator

        return ReportingEvaluator(self.codec)
