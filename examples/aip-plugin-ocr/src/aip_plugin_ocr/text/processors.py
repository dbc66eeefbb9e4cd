"""Processors of texts, before training and after prediction."""

from __future__ import annotations

from typing import Any

import attrs

from aip_plugin_ocr.text.direction import Direction, reordered
from aip_plugin_ocr.text.rules import TextRules
from aipcore.scenario import Mode, PostProcessor, Processor, Sample


@attrs.frozen
class TextPreparation:
    """Changes texts to the form in which they are learned.

    Attributes:
        rules: rules that normalize texts.
        direction: direction of the text; see `reordered`.
    """

    rules: TextRules
    direction: Direction

    def __call__(self, text: str) -> str:
        """Return the normalized text in visual order."""
        return reordered(self.rules(text), self.direction)


class PrepareText(Processor):
    """Normalizes the text of a line and puts it in visual order."""

    modes = frozenset({Mode.TRAINING, Mode.EVALUATION, Mode.TARGETS})

    def __init__(self, preparation: TextPreparation) -> None:
        self.preparation = preparation

    def process(self, sample: Sample) -> Sample:
        """Return the sample with the prepared text, and `truth` in its meta: this text in logical order."""
        visual = self.preparation(sample.targets)
        # Texts that look the same are equal: predictions are put in logical order in the same way.
        truth = reordered(visual, self.preparation.direction)
        return attrs.evolve(sample, targets=visual, meta={**sample.meta, "truth": truth})


class LogicalOrder(PostProcessor):
    """Puts predicted texts back in logical order; `visual` is the text as it was read, like `confidences`."""

    def __init__(self, direction: Direction) -> None:
        self.direction = direction

    def process(self, outputs: dict[str, Any], meta: Any) -> dict[str, Any]:
        """Return the outputs with `text` in logical order."""
        del meta
        return {**outputs, "text": reordered(outputs["text"], self.direction), "visual": outputs["text"]}
