"""Samples of a list that are printed with their targets and predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from aipcore.params.names import printable
from aipcore.scenario.describing import describe_answer
from aipcore.scenario.evaluator import Evaluator
from aipcore.scenario.scenario import Scenario


@attrs.frozen
class ShownSample:
    """A sample as text.

    Attributes:
        index: its number in the list, from 0.
        target: what is right.
        prediction: what the model predicts, after post-processing.
    """

    index: int
    target: str
    prediction: str

    def __str__(self) -> str:
        return f"sample {self.index}: target {self.target}, prediction {self.prediction}"


class ShownSamples(Evaluator):
    """An evaluator that keeps some samples as text, beside the scenario's own evaluator.

    Attributes:
        samples: those that were kept, evenly spaced over the list, always the same.

    Args:
        scenario: describes them.
        evaluator: the scenario's own, which sees everything too, if there is one.
        size: samples in the list.
        count: the most samples to keep.
    """

    def __init__(self, scenario: Scenario, evaluator: Evaluator | None, *, size: int, count: int) -> None:
        self.samples: list[ShownSample] = []
        self._scenario = scenario
        self._evaluator = evaluator
        self._post = list(scenario.post_processors())
        self._wanted = set(np.linspace(0, size - 1, min(size, count)).round().astype(int).tolist())
        self._seen = 0

    def update(self, targets: Mapping[str, Any], outputs: Mapping[str, Any], meta: Sequence[Any] | None) -> None:
        """Take in one batch."""
        for row in range(len(next(iter(outputs.values())))):
            if self._seen in self._wanted:
                of_row = [{name: column[row] for name, column in side.items()} for side in (targets, outputs)]
                texts = describe_answer(
                    self._scenario, self._post, of_row[0], of_row[1], None if meta is None else meta[row]
                )
                self.samples.append(ShownSample(self._seen, *(printable(text) for text in texts)))
            self._seen += 1
        if self._evaluator is not None:
            self._evaluator.update(targets, outputs, meta)

    def result(self) -> dict[str, float]:
        """Return the results of the scenario's own evaluator."""
        return {} if self._evaluator is None else self._evaluator.result()


def show_samples(scenario: Scenario, evaluator: Evaluator | None, size: int) -> ShownSamples | None:
    """Return an evaluator that keeps as many samples as `lav.show_samples` says, or None for none.

    Args:
        scenario: made with its parameters.
        evaluator: the scenario's own, if there is one.
        size: samples in the list.
    """
    count = scenario.params.lav.show_samples
    return ShownSamples(scenario, evaluator, size=size, count=count) if count else None
