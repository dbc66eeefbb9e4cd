"""Losses, metrics and evaluator results of stored outputs, without the model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import numpy as np
import tensorflow as tf

from aipcore.errors import AipError, DataError
from aipcore.prediction.saved_predictions import Stored
from aipcore.scenario.evaluator import Evaluator, check_evaluator, check_results_evaluator
from aipcore.scenario.losses import LossTerm, Objective, Tensors, set_mask
from aipcore.scenario.metrics import LossMean, MetricSet, metric_sets
from aipcore.scenario.model import trained_outputs
from aipcore.scenario.scenario import Scenario
from aipcore.scenario.shown_samples import ShownSample, show_samples

RESULTS_ONLY = "Losses and metrics of the vote are left out, because the models vote on results."


@attrs.frozen(kw_only=True)
class ListScore:
    """The scores of a model on one list of data.

    Attributes:
        name: name of the list; "" for the validation data.
        samples: number of samples.
        values: losses, metrics and evaluator results by name.
        report: text of the evaluator; may be empty.
        notes: values that could not be computed, with the reason.
        shown: samples to print.
        models: for an ensemble, the values of each model by its path.
        joint: for an ensemble, the heading of the joint values.
        parts: the number of samples of each model by its path, if each has its own.
    """

    name: str
    samples: int
    values: dict[str, float]
    report: str = ""
    notes: tuple[str, ...] = ()
    shown: tuple[ShownSample, ...] = ()
    models: Mapping[str, Mapping[str, float]] = attrs.field(factory=dict)
    joint: str = "vote"
    parts: Mapping[str, int] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True, eq=False)
class Answers:
    """Targets and outputs of one batch, as arrays of shape [batch, ...] by name.

    Attributes:
        targets: targets.
        outputs: outputs of the model.
        weights: sample weights.
        masks: Keras masks of the outputs.
        penalty: regularization penalty of the model.
        meta: meta of each sample, or None.
        inputs: inputs, for losses that need them; None if they are unknown.
    """

    targets: Mapping[str, Any]
    outputs: Mapping[str, Any]
    weights: Mapping[str, Any] = attrs.field(factory=dict)
    masks: Mapping[str, Any] = attrs.field(factory=dict)
    penalty: float = 0.0
    meta: list[Any] | None = None
    inputs: Mapping[str, Any] | None = None


class _NotStoredError(AipError):
    """A loss that needs the inputs, which are not stored."""


class _NoInputs(Mapping[str, Any]):
    """Placeholder for the missing inputs of stored outputs. Access raises an error for the loss."""

    def __getitem__(self, name: str) -> Any:
        raise _NotStoredError(f"the input {name or 'of the model'} is not stored")

    def __iter__(self) -> Iterator[str]:
        raise _NotStoredError("inputs are not stored")

    def __len__(self) -> int:
        raise _NotStoredError("inputs are not stored")


def score_stored(stored: Stored, scenario: Scenario) -> list[ListScore]:
    """Score each list in a file.

    Raises:
        DataError: the file lacks targets or outputs.
    """
    voted = bool(stored.group("predictions")) and not stored.group("outputs")
    for group in ("targets", "predictions" if voted else "outputs"):
        if not stored.group(group):
            raise DataError(
                f"The file contains no {group}. Use a file of aip lav --dump or aip predict --targets --output."
            )
    score = _score_results if voted else _score
    return [score(stored, scenario, name) for name in dict.fromkeys(stored.lists)]


def _score_results(stored: Stored, scenario: Scenario, name: str) -> ListScore:
    """Score the results of models that voted on them."""
    rows = [row for row, list_name in enumerate(stored.lists) if list_name == name]
    evaluator = check_results_evaluator(scenario.evaluator(), type(scenario).__name__)
    shown = show_samples(scenario, evaluator, len(rows))
    for batch in _batches(stored, rows):
        results = [{key: column[row] for key, column in stored.group("predictions").items()} for row in batch]
        (shown or evaluator).update_results(_stacked(stored, "targets", batch), results, _metas(stored, batch))
    return ListScore(
        name=name,
        samples=len(rows),
        values=result_values(evaluator),
        report=evaluator.report(),
        notes=(RESULTS_ONLY,),
        shown=() if shown is None else tuple(shown.samples),
    )


def _score(stored: Stored, scenario: Scenario, name: str) -> ListScore:
    rows = [row for row, list_name in enumerate(stored.lists) if list_name == name]
    outputs, targets = list(stored.group("outputs")), list(stored.group("targets"))
    trained = trained_outputs(stored.about) if "signature" in stored.about else outputs
    evaluator = check_evaluator(scenario.evaluator())
    shown = show_samples(scenario, evaluator, len(rows))
    scorer = Scorer(scenario, trained, targets, outputs, shown or evaluator)
    for batch in _batches(stored, rows):
        target, output, weights, masks = (
            _stacked(stored, group, batch) for group in ("targets", "outputs", "weights", "masks")
        )
        scorer.add(
            Answers(
                targets=target,
                outputs=output,
                weights=weights,
                masks=masks,
                penalty=stored.penalty[batch[0]],
                meta=_metas(stored, batch),
            )
        )
    return ListScore(
        name=name,
        samples=len(rows),
        values=scorer.values(),
        report=evaluator.report() if evaluator is not None else "",
        notes=tuple(scorer.notes),
        shown=() if shown is None else tuple(shown.samples),
    )


class Scorer:
    """Losses, metrics and evaluator results, accumulated over batches.

    Attributes:
        notes: values that could not be computed, with the reason.

    Args:
        scenario: scenario with the losses and metrics.
        trained: output names of the trained model.
        targets: target names of the data.
        outputs: names of the available outputs.
        evaluator: new evaluator, or None.
        preprocess: see `Objective`.
    """

    def __init__(
        self,
        scenario: Scenario,
        trained: list[str],
        targets: list[str],
        outputs: list[str],
        evaluator: Evaluator | None,
        preprocess: Callable[[Tensors], Tensors] | None = None,
    ) -> None:
        self._objective = Objective(scenario, trained, targets, given=outputs, preprocess=preprocess)
        self._sets = partial(metric_sets, scenario, trained, targets)
        self._evaluator = evaluator
        self._running: MetricSet | None = None
        self.notes: list[str] = []

    def add(self, batch: Answers) -> None:
        """Add one batch."""
        tensors = {key: tf.constant(value) for key, value in batch.outputs.items()}
        for key, mask in batch.masks.items():
            set_mask(tensors[key], tf.constant(mask))
        truth = {key: tf.constant(value) for key, value in batch.targets.items()}
        weights = {key: tf.constant(value) for key, value in batch.weights.items()}
        inputs = {key: tf.constant(value) for key, value in batch.inputs.items()} if batch.inputs is not None else None
        samples = tf.constant(len(next(iter(batch.outputs.values()))), tf.float32)
        terms: Mapping[str, LossTerm] = {}
        if not self.notes:
            try:
                terms = self._objective(_NoInputs() if inputs is None else inputs, truth, tensors, weights, samples)
            except _NotStoredError as error:
                self.notes.append(f"The losses are left out, because {error}.")
        if self._running is None:
            self._running = self._sets(self._objective, terms, (truth, tensors, weights))()
        running = self._running.losses
        if terms and isinstance(running, LossMean):
            sums = running.sums(terms, tf.constant(batch.penalty, tf.float32), samples)
            running.add_batch(running.means(sums, running.scales(sums)), samples)
        self._running.update(truth, tensors, weights)
        if self._evaluator is not None:
            self._evaluator.update(batch.targets, batch.outputs, batch.meta)

    def values(self) -> dict[str, float]:
        """Return the results by name. Requires at least one batch."""
        assert self._running is not None
        values = self._running.result()
        if self.notes:
            values.pop("loss", None)
        return values if self._evaluator is None else values | result_values(self._evaluator)


def result_values(evaluator: Evaluator) -> dict[str, float]:
    """Return the results of an evaluator by name."""
    return {key: float(value) for key, value in evaluator.result().items()}


def _batches(stored: Stored, rows: Sequence[int]) -> Iterator[list[int]]:
    batch: list[int] = []
    for row in rows:
        if batch and stored.batch[row] != stored.batch[batch[0]]:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _stacked(stored: Stored, group: str, batch: Sequence[int]) -> dict[str, Any]:
    return {name: np.stack([values[row] for row in batch]) for name, values in stored.group(group).items()}


def _metas(stored: Stored, batch: Sequence[int]) -> list[Any] | None:
    meta = [json.loads(stored.meta[row]) if stored.meta[row] else None for row in batch]
    return meta if any(each is not None for each in meta) else None
