"""The scenario of text recognition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from aip_plugins.scenarios.text_line_recognition.scenario import TextLineRecognition

from aip_plugin_ocr.decoding.language import language_files
from aip_plugin_ocr.decoding.params import BeamSearch
from aip_plugin_ocr.network.layers import check_layers, stride_of
from aip_plugin_ocr.params import OCRParams
from aipcore.scenario import Evaluator


class OCR(TextLineRecognition):
    """Recognizes lines of text in images, PageXML, ALTO and HDF5 files. Without lists, it trains on rendered lines."""

    params_class = OCRParams
    params: OCRParams

    # Files, texts and images.

    suffixes: ClassVar[tuple[str, ...]] = (*TextLineRecognition.suffixes, ".xml", ".h5", ".hdf5")

    def check(self) -> None:
        """Check the parameters and the order of the layers, and read the files that they name."""
        check_layers(self.params.model.layers, self.params.data.height)
        super().check()
        _ = self.preparation
        if isinstance(self.params.data.decoder.params, BeamSearch):
            language_files(self.params.data.decoder.params)

    @cached_property
    def preparation(self) -> Any:
        """The function that normalizes texts and puts them in visual order."""
        from aip_plugin_ocr.text.processors import TextPreparation
        from aip_plugin_ocr.text.rules import TextRules, read_rules

        data = self.params.data
        rules = TextRules() if data.text_rules is None else read_rules(data.text_rules)
        return TextPreparation(rules, data.text_direction)

    def source(self, paths: Sequence[Path], *, targets: bool) -> Any:
        """Return the lines of images, pages and sets of lines."""
        from aip_plugin_ocr.files.lines import open_lines

        data = self.params.data
        return open_lines(paths, targets=targets, text_index=data.text_index, images=data.page_images)

    def texts(self, data: Any) -> list[str]:
        """Return the prepared texts of training or validation data."""
        return [self.preparation(text) for text in super().texts(data)]

    def train_data(self) -> Any:
        """Return the training lines, with a message about lines that are left out."""
        return _noted(super().train_data(), "training lines")

    def val_data(self) -> Any:
        """Return the validation lines, with a message about lines that are left out."""
        return _noted(super().val_data(), "validation lines")

    def lav_data(self) -> Mapping[str, Any] | None:
        """Return the lines of each list, with messages about lines that are left out."""
        lists = super().lav_data()
        return lists and {name: _noted(data, f"lines of {name}") for name, data in lists.items()}

    def processors(self) -> Sequence[Any]:
        """Return the processors of texts, the chosen ones of images, and those of `TextLineRecognition`."""
        from aip_plugin_ocr.images.processors import PROCESSORS
        from aip_plugin_ocr.text.processors import PrepareText

        chosen = [PROCESSORS[type(each.params)](each.params) for each in self.params.data.image_processors]
        return [PrepareText(self.preparation), *chosen, *super().processors()]

    def post_processors(self) -> Sequence[Any]:
        """Return the decoder and, for bidirectional text, the post-processor that restores the logical order."""
        from aip_plugin_ocr.text.processors import LogicalOrder

        direction = self.params.data.text_direction
        return [*super().post_processors(), *([LogicalOrder(direction)] if direction != "none" else [])]

    def describe(self, targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[str, str]:
        """Return both texts in logical order."""
        from aip_plugin_ocr.text.direction import reordered

        text, read = super().describe(targets, outputs)
        return reordered(text, self.params.data.text_direction), read

    # The network.

    @property
    def stride(self) -> int:
        """Pixels of a line per step of the network."""
        return stride_of(self.params.model.layers)

    def logits(self, image: Any, width: Any) -> Any:
        """Return the logits of the network."""
        from aip_plugin_ocr.network.build import logits

        return logits(image, width, self.params.model.layers, self.codec.classes)

    # Decoding, and files of predictions.

    @cached_property
    def reader(self) -> Any:
        """The decoder of the logits, by `--data.decoder`."""
        decoder = self.params.data.decoder.params
        if not isinstance(decoder, BeamSearch):
            return super().reader
        from aip_plugin_ocr.decoding.beam_search import BeamReader

        return BeamReader(self.codec, decoder)

    def vote_results(self, answers: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return the vote of the aligned texts, which are aligned in visual order."""
        from aip_plugin_ocr.text.processors import LogicalOrder

        # A model without a direction returns texts as they were read.
        joined = super().vote_results([{**each, "text": each.get("visual", each["text"])} for each in answers])
        direction = self.params.data.text_direction
        return joined if direction == "none" else LogicalOrder(direction).process(dict(joined), None)

    def evaluator(self) -> Evaluator:
        """Return the evaluator for error rates, the worst lines, frequent errors, and error rates by length."""
        from aip_plugin_ocr.reports.evaluator import ReportingEvaluator

        return ReportingEvaluator(self.codec, self.reader)

    def prediction_writers(self) -> Mapping[str, Any]:
        """Return the writer of copies of the files with predicted texts."""
        from aip_plugin_ocr.files.writer import SUFFIX, pages_writer

        return {**super().prediction_writers(), SUFFIX: pages_writer(self.params.data.prediction_index)}


def _noted(data: Any, what: str) -> Any:
    if note := getattr(data, "note", None):
        note(what)
    return data
