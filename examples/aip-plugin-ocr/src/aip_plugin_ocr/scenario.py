"""The scenario of text recognition."""

from __future__ import annotations

from typing import Any

from aip_plugins.scenarios.text_line_recognition.scenario import TextLineRecognition

from aip_plugin_ocr.network.layers import check_layers, stride_of
from aip_plugin_ocr.params import OCRParams


class OCR(TextLineRecognition):
    """Recognizes lines of text in images, PageXML, ALTO and HDF5 files. Without lists, it trains on rendered lines."""

    params_class = OCRParams
    params: OCRParams

    def check(self) -> None:
        """Check the order of the layers, too."""
        check_layers(self.params.model.layers, self.params.data.height)
        super().check()

    @property
    def stride(self) -> int:
        """Pixels of a line per step of the network."""
        return stride_of(self.params.model.layers)

    def logits(self, image: Any, width: Any) -> Any:
        """Return the logits of the network."""
        from aip_plugin_ocr.network.build import logits

        return logits(image, width, self.params.model.layers, self.codec.classes)
