"""Losses, metrics and evaluator results of stored answers, without the model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import tensorflow as tf

from aipcore.errors import AipError, DataError
from aipcore.prediction.stored import Stored
from aipcore.scenario.graph import trained_outputs
from aipcore.scenario.metrics import LossMean, MetricSet, metric_sets
from aipcore.scenario.objective import LossTerm, Objective, set_mask
from aipcore.scenario.scenario import Scenario


@attrs.frozen(kw_only=True)
class ListScore:
    """How good a model is on one list.

    Attributes:
        name: of the list; "" for the validation data.
        samples: how many there were.
        values: losses, metrics and evaluator results by name.
        report: what the evaluator has to say; may be empty.
        notes: what could not be computed, and why.
    """

    name: str
    samples: int
    values: dict[str, float]
    report: str = ""
    notes: tuple[str, ...] = ()


class _NotStoredError(AipError):
    """A loss needs the inputs."""


class _NoInputs(Mapping[str, Any]):
    """The inputs of stored answers, which are not stored: says so to a loss that asks for one."""

    def __getitem__(self, name: str) -> Any:
        raise _NotStoredError(f"the input {name or 'of the model'} is not stored")

    def __iter__(self) -> Iterator[str]:
        raise _NotStoredError("inputs are not stored")

    def __len__(self) -> int:
        raise _NotStoredError("inputs are not stored")


def score_stored(stored: Stored, scenario: Scenario) -> list[ListScore]:
    """Scores each list of a file.

    Raises:
        DataError: the file holds no targets or no outputs.
    """
    for group in ("targets", "outputs"):
        if not stored.group(group):
            raise DataError(
                f"The file holds no {group}: evaluate what aip lav --dump or aip predict --targets --output wrote."
            )
    return [_score(stored, scenario, name) for name in dict.fromkeys(stored.lists)]


def _score(stored: Stored, scenario: Scenario, name: str) -> ListScore:
    rows = [row for row, list_name in enumerate(stored.lists) if list_name == name]
    outputs, targets = list(stored.group("outputs")), list(stored.group("targets"))
    trained = trained_outputs(stored.about) if "signature" in stored.about else outputs
    objective = Objective(scenario, trained, targets, given=outputs)
    evaluator = scenario.evaluator()
    running: MetricSet | None = None
    notes: list[str] = []
    for batch in _batches(stored, rows):
        target, output, masks = (_stacked(stored, group, batch) for group in ("targets", "outputs", "masks"))
        tensors = {key: tf.constant(value) for key, value in output.items()}
        for key, mask in masks.items():
            set_mask(tensors[key], tf.constant(mask))
        truth = {key: tf.constant(value) for key, value in target.items()}
        weights = {key: tf.constant(value) for key, value in _stacked(stored, "weights", batch).items()}
        samples = tf.constant(len(batch), tf.float32)
        terms: Mapping[str, LossTerm] = {}
        if not notes:
            try:
                terms = objective(_NoInputs(), truth, tensors, weights, samples)
            except _NotStoredError as error:
                notes.append(f"The losses are left out, since {error}.")
        if running is None:
            running = metric_sets(scenario, trained, targets, objective, terms, (truth, tensors))()
        if terms and running.losses is not None:
            penalty = tf.constant(stored.penalty[batch[0]], tf.float32)
            running.losses.add_batch(running.losses.means(LossMean.sums(terms, penalty, samples)), samples)
        running.update(truth, tensors, weights)
        if evaluator is not None:
            meta = [_meta(stored.meta[row]) for row in batch]
            evaluator.update(target, output, meta if any(each is not None for each in meta) else None)
    assert running is not None
    values = running.result()
    if notes:
        values.pop("loss", None)
    if evaluator is not None:
        values |= {key: float(value) for key, value in evaluator.result().items()}
    report = evaluator.report() if evaluator is not None else ""
    return ListScore(name=name, samples=len(rows), values=values, report=report, notes=tuple(notes))


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


def _meta(text: str) -> Any:
    return json.loads(text) if text else None
