"""Samples shown with their targets and predictions as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from aipcore.data.processor import PostProcessor, post_process
from aipcore.errors import ScenarioError, with_traceback_hint
from aipcore.params.names import printable
from aipcore.scenario.evaluator import Evaluator
from aipcore.scenario.scenario import Scenario

MOST_NUMBERS = 8
"""The most numbers of an array to show."""


def describe_answer(
    scenario: Scenario,
    post: Sequence[PostProcessor],
    targets: Mapping[str, Any],
    outputs: Mapping[str, Any],
    meta: Any,
) -> tuple[str, str]:
    """Return the target and the post-processed output of one sample as text, from `describe` if it is defined.

    Args:
        scenario: the scenario, which may override `describe`.
        post: the scenario's post-processors.
        targets: by name, arrays of one sample.
        outputs: by name, the model's outputs for the sample.
        meta: the sample's metadata.

    Raises:
        ScenarioError: a post-processor or `describe` fails.
    """
    return _described(scenario, targets, post_process(post, dict(outputs), meta), meta)


def _described(scenario: Scenario, targets: Mapping[str, Any], answer: Mapping[str, Any], meta: Any) -> tuple[str, str]:
    try:
        return scenario.describe(targets, answer) or describe_sample(targets, answer)
    except Exception as error:
        raise ScenarioError(
            f"{type(scenario).__name__}.describe() failed on a sample with meta {meta!r}: {type(error).__name__}: "
            f"{with_traceback_hint(str(error))}"
        ) from error


def describe_sample(targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[str, str]:
    """Return the target and the prediction in one line each.

    Text and numbers are shown unchanged. For a vector of scores with a single number as target, the index of the
    largest score is shown. Outputs with a target of the same name are shown, or else all outputs.

    Args:
        targets: by name, arrays of one sample.
        outputs: by name, the outputs after post-processing.
    """
    right = {name: value for name, value in targets.items() if np.size(value)}
    answered = {}
    compared = {name: value for name, value in outputs.items() if name in right} or outputs
    for name, value in compared.items():
        target = right.get(name, next(iter(right.values())) if len(right) == 1 else None)
        array = np.asarray(value)
        is_class = target is not None and np.ndim(target) == 0 and np.asarray(target).dtype.kind in "iu"
        answered[name] = int(array.argmax()) if is_class and array.ndim == 1 and array.size > 1 else value
    return _text(right), _text(answered)


def _text(values: Mapping[str, Any]) -> str:
    shown = {name: _shown(value) for name, value in values.items()}
    return (
        next(iter(shown.values())) if len(shown) == 1 else ", ".join(f"{name} {text}" for name, text in shown.items())
    )


def _shown(value: Any) -> str:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        return str(value)
    numbers = [f"{number:.4g}" if array.dtype.kind == "f" else str(number) for number in array.ravel()[:MOST_NUMBERS]]
    return " ".join(numbers) + (" ..." if array.size > MOST_NUMBERS else "")


@attrs.frozen
class ShownSample:
    """A sample as text.

    Attributes:
        index: the sample index in the list.
        target: the target as text.
        prediction: the model's prediction as text, after post-processing.
    """

    index: int
    target: str
    prediction: str

    def __str__(self) -> str:
        return f"sample {self.index}: target {self.target}, prediction {self.prediction}"


class ShownSamples(Evaluator):
    """An evaluator that keeps some samples as text, in addition to the scenario's own evaluator.

    Attributes:
        samples: the kept samples, evenly spaced over the list, always the same.

    Args:
        scenario: the scenario that describes the samples.
        evaluator: the scenario's own evaluator, which also receives all samples, or None.
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
        """Process one batch."""
        for row in range(len(next(iter(outputs.values())))):
            if self._seen in self._wanted:
                about = None if meta is None else meta[row]
                answer = post_process(self._post, _row(outputs, row), about)
                self._show(_described(self._scenario, _row(targets, row), answer, about))
            self._seen += 1
        if self._evaluator is not None:
            self._evaluator.update(targets, outputs, meta)

    def update_results(
        self, targets: Mapping[str, Any], results: Sequence[Mapping[str, Any]], meta: Sequence[Any] | None
    ) -> None:
        """Process one batch of joint results."""
        for row, result in enumerate(results):
            if self._seen in self._wanted:
                about = None if meta is None else meta[row]
                self._show(_described(self._scenario, _row(targets, row), result, about))
            self._seen += 1
        if self._evaluator is not None:
            self._evaluator.update_results(targets, results, meta)

    def _show(self, texts: tuple[str, str]) -> None:
        self.samples.append(ShownSample(self._seen, *(printable(text) for text in texts)))

    def result(self) -> dict[str, float]:
        """Return the results of the scenario's own evaluator."""
        return {} if self._evaluator is None else self._evaluator.result()


def _row(columns: Mapping[str, Any], row: int) -> dict[str, Any]:
    return {name: column[row] for name, column in columns.items()}


def show_samples(scenario: Scenario, evaluator: Evaluator | None, size: int) -> ShownSamples | None:
    """Return an evaluator that keeps `lav.show_samples` samples, or None for none.

    Args:
        scenario: the scenario with its parameters.
        evaluator: the scenario's own evaluator, or None.
        size: samples in the list.
    """
    count = scenario.params.lav.show_samples
    return ShownSamples(scenario, evaluator, size=size, count=count) if count else None
