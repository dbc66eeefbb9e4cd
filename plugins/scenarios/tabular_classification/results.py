"""Post-processing of the probabilities of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aipcore.scenario import PostProcessor


class NameClass(PostProcessor):
    """Decodes probabilities to the most probable class."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = list(classes)

    def process(self, outputs: dict[str, Any], meta: Any) -> dict[str, Any]:
        """Return the name `class`, and `probability.NAME` for each class, from `probabilities` of shape [classes]."""
        del meta
        probabilities = outputs["probabilities"]
        found = {f"probability.{name}": float(value) for name, value in zip(self.classes, probabilities, strict=True)}
        return {"class": self.classes[int(probabilities.argmax())], **found}
