"""The evaluator of text recognition: error rates, and tables of the errors."""

from __future__ import annotations

from typing import Any

from aip_plugins.scenarios.text_line_recognition.codec import Codec
from aip_plugins.scenarios.text_line_recognition.metrics import ReadingEvaluator

from aip_plugin_ocr.reports.statistics import ReadingStatistics


class ReportingEvaluator(ReadingEvaluator):
    """Error rates, the worst lines, the most frequent errors, and error rates by length."""

    def __init__(self, codec: Codec, reader: Any = None) -> None:
        super().__init__(codec, reader)
        self.statistics = ReadingStatistics()

    def count_line(self, truth: str, read: str, errors: float | None = None) -> None:
        """Update with the text of a line, the text that was read, and their edit distance if it is known."""
        super().count_line(truth, read, errors)
        self.statistics.add(truth, read)

    def report(self) -> str:
        """Return the worst lines and the tables."""
        return "\n\n".join(filter(None, (super().report(), self.statistics.text())))
