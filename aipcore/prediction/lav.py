"""Load and validate: the losses, metrics and evaluator results of a model on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from aipcore.data.dataset import Dataset
from aipcore.data.feed import Batching, Feed
from aipcore.data.modes import Mode
from aipcore.data.order import SampleOrder
from aipcore.devices.distribution import Distribution
from aipcore.errors import AipError, DataError, author_errors, located_sentence
from aipcore.evaluation.evaluate import Evaluation
from aipcore.evaluation.shown import show_samples
from aipcore.prediction.data import lav_lists, open_pipeline
from aipcore.prediction.member import Member, Model, has_extras, load_graph, takes
from aipcore.prediction.model_dir import ModelDir
from aipcore.prediction.scoring import ListScore
from aipcore.prediction.stored import Stored
from aipcore.scenario.evaluator import Evaluator
from aipcore.scenario.graph import trained_outputs
from aipcore.scenario.metrics import Example, metric_sets
from aipcore.scenario.objective import LossTerm, Objective
from aipcore.scenario.replica_metrics import ReplicaMetrics
from aipcore.scenario.scenario import Scenario


@author_errors()
def run_lav(
    model: ModelDir, scenario: Scenario, *, eager: bool = False, stored: Stored | None = None
) -> tuple[list[ListScore], list[str]]:
    """Scores a model on each list of the scenario's data for it.

    Batches are those of validation in training, so that the numbers are too.

    Args:
        model: what to load.
        scenario: made with the parameters to apply the model with.
        eager: whether to compile nothing, to debug a scenario.
        stored: takes in targets and outputs, if given.

    Returns:
        the scores of each list, and a sentence for each list of which samples were left out.

    Raises:
        UsageError: the model cannot be loaded.
        DataError: there is no data, or it does not fit the model.
    """
    graph = load_graph(model, scenario)
    params = scenario.params
    validation = params.val.batch_size or params.train.batch_size
    scores: list[ListScore] = []
    skipped: list[str] = []
    for name, data in lav_lists(scenario).items():
        origin = f"lav_data()[{name!r}]" if name else "val_data()"
        preload = params.lav.preload if name else params.val.preload
        limit = params.lav.limit if name or params.lav.limit is not None else params.val.limit
        with open_pipeline(
            scenario, data, origin, mode=Mode.EVALUATION, seed=model.seed, preload=preload, limit=limit
        ) as pipeline:
            dataset = pipeline.dataset()
            evaluation = _evaluation(
                graph, model, scenario, dataset, params.lav.batch_size or validation, origin, eager
            )
            evaluator = scenario.evaluator()
            shown = show_samples(scenario, evaluator, len(dataset))
            recorder = None if stored is None else Recorder(shown or evaluator, stored, name)
            values = evaluation.run(recorder or shown or evaluator)
            if recorder is not None:
                recorder.add_extras(graph, dataset, evaluation.batching)
        report = evaluator.report() if evaluator is not None else ""
        kept = () if shown is None else tuple(shown.samples)
        scores.append(ListScore(name=name, samples=len(dataset), values=values, report=report, shown=kept))
        if text := pipeline.skipped():
            skipped.append(text)
    return scores, skipped


def _evaluation(
    graph: Model, model: ModelDir, scenario: Scenario, dataset: Dataset, batch_size: int, origin: str, eager: bool
) -> Evaluation:
    inputs, targets, _ = dataset.specs()
    kind = type(scenario).__name__
    if not takes(model, graph, inputs):
        raise DataError(
            f"{kind}.{origin} has the inputs {_names(inputs)}, but the model takes {_names(graph.inputs)}: it was "
            "trained on other data."
        )
    if not targets:
        raise DataError(f"{kind}.{origin} has no targets to compare with: to predict, run aip predict.")
    trained, there = trained_outputs(model.about), graph.outputs
    objective = Objective(scenario, trained, list(targets), given=there)
    terms, example = _first_sample(objective, graph, dataset, f"{kind}.{origin}")
    distribution = Distribution()
    make = metric_sets(scenario, trained, list(targets), objective, terms, example)
    metrics = ReplicaMetrics(make, distribution)
    return Evaluation(
        graph, dataset, objective, metrics, batch_size=batch_size, distribution=distribution, eager=eager
    )  # fmt: skip


def _first_sample(
    objective: Objective, graph: Model, dataset: Dataset, origin: str
) -> tuple[Mapping[str, LossTerm], Example]:
    """The losses of one sample, its targets, outputs and weights; finds what does not fit."""
    sides = dataset.known().take(np.arange(1))
    inputs, targets, weights = ({name: tf.constant(column) for name, column in side.items()} for side in sides)
    try:
        outputs = graph(inputs, training=False)
        return objective(inputs, targets, outputs, weights, 1.0), (targets, outputs, weights)
    except AipError:
        raise
    except Exception as error:
        given = ", ".join(f"{name or 'inputs'} {tuple(value.shape[1:])}" for name, value in inputs.items())
        reason = located_sentence(error)
        raise DataError(f"The model cannot take the samples of {origin} ({given}): {reason}") from error


class Recorder(Evaluator):
    """Keeps what an evaluator sees, batch by batch.

    Args:
        evaluator: hears of everything too, if there is one.
        stored: where it is kept.
        name: of the list.
    """

    def __init__(self, evaluator: Evaluator | None, stored: Stored, name: str) -> None:
        self._evaluator = evaluator
        self._stored = stored
        self._name = name
        self._first = len(stored)
        self._batches = 0

    def update(self, targets: Mapping[str, Any], outputs: Mapping[str, Any], meta: Sequence[Any] | None) -> None:
        """Keeps a batch."""
        size = len(next(iter(outputs.values())))
        for row in range(size):
            self._stored.add_sample(
                index=len(self._stored) - self._first,
                batch=self._batches,
                list_name=self._name,
                meta=None if meta is None else meta[row],
            )
            self._stored.add_values("targets", {name: column[row] for name, column in targets.items()})
            self._stored.add_values("outputs", {name: column[row] for name, column in outputs.items()})
        self._batches += 1
        if self._evaluator is not None:
            self._evaluator.update(targets, outputs, meta)

    def result(self) -> dict[str, float]:
        """That of the evaluator."""
        return {} if self._evaluator is None else self._evaluator.result()

    def add_rows(self, group: str, columns: Mapping[str, Any]) -> None:
        """Keep further columns of the last batch, arrays of shape [batch, ...] by name: its masks or weights."""
        for name, column in columns.items():
            for row in column:
                self._stored.add_values(group, {name: row})

    def add_extras(self, graph: Model, dataset: Dataset, batching: Batching) -> None:
        """Adds what losses depend on besides the outputs, if they do: the model may run a second time for that."""
        extra = has_extras(graph)
        if not extra and not dataset.specs()[2]:
            return
        member = Member(graph)
        feed = Feed(dataset, SampleOrder(len(dataset), seed=0, shuffle=False), batching)
        row = self._first
        for block in feed.blocks(0, chunk=1):
            found = member.extras({name: column[0] for name, column in block.inputs.items()}) if extra else None
            self.add_rows("weights", {name: column[0] for name, column in block.weights.items()})
            if found is None:
                continue
            self.add_rows("masks", found.masks)
            self._stored.penalty[row : row + block.batch_size] = [found.penalty] * block.batch_size
            row += block.batch_size


def _names(specs: Mapping[str, Any]) -> str:
    return ", ".join(name or "one array" for name in specs) or "none"
