"""An evaluator for the confusion of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aipcore.scenario import Evaluator


class ConfusionEvaluator(Evaluator):
    """Counts the confusions for every pair of a true class and a predicted class.

    Args:
        classes: number of classes.
        output: the name of the output and its target.
        names: the names of the classes; by default their numbers.
        target: the name of the target, if it differs.
    """

    def __init__(
        self, classes: int, output: str = "digit", names: Sequence[str] = (), *, target: str | None = None
    ) -> None:
        self.output = output
        self.target = target or output
        self.names = names or [str(number) for number in range(classes)]
        self.counts = np.zeros((classes, classes), np.int64)

    def update(self, targets: Mapping[str, Any], outputs: Mapping[str, Any], meta: Sequence[Any] | None) -> None:
        """Process labels of shape [batch] and logits of shape [batch, classes]."""
        del meta
        np.add.at(self.counts, (targets[self.target], outputs[self.output].argmax(axis=-1)), 1)

    def result(self) -> dict[str, float]:
        """Return the error rate, and the lowest recall of any class."""
        per_class = self.counts.sum(axis=1)
        right = self.counts.diagonal()
        seen = per_class > 0
        return {
            "error_rate": float(1 - right.sum() / per_class.sum()),
            "worst_recall": float((right[seen] / per_class[seen]).min()),
        }

    def report(self) -> str:
        """Return the three most frequent confusions."""
        wrong = self.counts - np.diag(self.counts.diagonal())
        worst = np.argsort(wrong, axis=None, kind="stable")[::-1][:3]
        pairs = [divmod(int(index), len(wrong)) for index in worst if wrong.flat[index] > 0]
        if not pairs:
            return "No classes were confused."
        listed = ", ".join(
            f"{self.names[truth]} predicted as {self.names[guess]} ({count} time{'' if count == 1 else 's'})"
            for truth, guess in pairs
            for count in [wrong[truth, guess]]
        )
        return f"Most confused: {listed}."
