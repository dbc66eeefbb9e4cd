"""The scenario of text recognition."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from aip_plugins.scenarios.text_line_recognition.scenario import TextLineRecognition

from aip_plugin_ocr.decoding.language import language_files
from aip_plugin_ocr.decoding.params import BeamSearch
from aip_plugin_ocr.params import OCRParams


class OCR(TextLineRecognition):
    """Recognizes lines of text in images, PageXML, ALTO and HDF5 files. Without lists, it trains on rendered lines."""

    params_class = OCRParams
    params: OCRParams

    def check(self) -> None:
        """Check the parameters and the files that they name."""
        super().check()
        if isinstance(self.params.data.decoder.params, BeamSearch):
            language_files(self.params.data.decoder.params)

    @cached_property
    def reader(self) -> Any:
        """The decoder of the logits, by `--data.decoder`."""
        decoder = self.params.data.decoder.params
        if not isinstance(decoder, BeamSearch):
            return super().reader
        from aip_plugin_ocr.decoding.beam_search import BeamReader

        return BeamReader(self.codec, decoder)
