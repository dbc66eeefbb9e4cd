"""Evaluators: results over a whole data set that are no per-batch metrics, such as a confusion matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aipcore.scenario.summaries import Summary


class Evaluator:
    """Collects what the prediction graph answered over one pass of a data set, and reports at its end.

    One instance serves one pass; it runs on the host, on NumPy arrays.
    """

    def update(self, targets: Mapping[str, Any], outputs: Mapping[str, Any], meta: Sequence[Any] | None) -> None:
        """Takes in one batch.

        Args:
            targets: per name, an array of shape [batch, ...]. The name of a bare target array is "".
            outputs: per name, an array of shape [batch, ...]. The name of a bare output is "".
            meta: the `Sample.meta` of each sample of the batch, or None if the data has none.
        """
        raise TypeError(f"{type(self).__name__} must define update(targets, outputs, meta).")

    def result(self) -> dict[str, float]:
        """The results by name, logged and shown beside losses and metrics."""
        raise TypeError(f"{type(self).__name__} must define result().")

    def report(self) -> str:
        """Further text for a reader, such as a table of confusions; empty for none."""
        return ""

    def summaries(self) -> Iterable[Summary]:
        """Return images, histograms and PR curves of the whole list for TensorBoard; empty for none.

        They are written at each extended validation in training, beside the curves of the list. Each record has a name
        of its own that no curve of the list has.
        """
        return []
