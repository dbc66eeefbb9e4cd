"""LAV (load and validate): losses, metrics and evaluator results of one or more models on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from aipcore.data.batching import Batching
from aipcore.data.dataset import Dataset
from aipcore.data.loader import DataLoader
from aipcore.data.pipeline import evaluation_batch_size
from aipcore.data.processor import Mode
from aipcore.data.sampler import SampleOrder
from aipcore.distributed.strategy import Distribution
from aipcore.errors import AipError, DataError, UsageError, author_errors, located_sentence
from aipcore.prediction.data import fold_of, lav_lists, open_held_out, open_pipeline
from aipcore.prediction.ensemble import EnsembleMember, joint_results, vote
from aipcore.prediction.evaluate_saved import RESULTS_ONLY, Answers, ListScore, Scorer, result_values
from aipcore.prediction.loaded_model import LoadedModel, Model, has_extras, load_graph, takes
from aipcore.prediction.locate import ModelDir
from aipcore.prediction.predictor import Predictor
from aipcore.prediction.saved_predictions import Stored
from aipcore.scenario.author_names import has_loss_values
from aipcore.scenario.evaluator import Evaluator, check_evaluator, check_results_evaluator
from aipcore.scenario.losses import LossTerm, Objective
from aipcore.scenario.metrics import Example, metric_sets
from aipcore.scenario.model import trained_outputs
from aipcore.scenario.params import ScenarioParams
from aipcore.scenario.pipelines import lav_data_of
from aipcore.scenario.preprocessing import Preprocessing
from aipcore.scenario.replica_metrics import ReplicaMetrics
from aipcore.scenario.scenario import Scenario
from aipcore.scenario.shown_samples import show_samples
from aipcore.training.engine.evaluate import Evaluation
from aipcore.training.preprocessing import load_preprocessing

NO_PENALTY = "The loss is computed from the joint outputs, without the penalties of the models' regularizers."


class Jury(Predictor):
    """Several models of one scenario, scored on their joint outputs or results, which are combined as in `aip predict`.

    The first model's scenario defines the losses, metrics and evaluator of the vote. Joint results are scored by the
    evaluator alone. Batches are those of validation in training.
    """

    def score(self, stored: Stored | None = None) -> tuple[list[ListScore], list[str]]:
        """Score the vote and each model on each list of data.

        Args:
            stored: storage for the targets and the joint outputs or results, or None.

        Returns:
            the scores of each list, and for each list with omitted samples a sentence about them.

        Raises:
            UsageError: the models have different lists of data or sample counts.
            DataError: the data is missing or does not fit a model.
        """
        lists = [lav_lists(group[0].scenario) for group in self._groups]
        for group, other in zip(self._groups, lists, strict=True):
            if list(other) != list(lists[0]):
                raise UsageError(
                    f"{group[0].model.path} has the lists {_listed(other)}, but {self.voters[0].model.path} has "
                    f"{_listed(lists[0])}. Use the same lists for all models, with the options of --lav."
                )
        scores: list[ListScore] = []
        skipped: dict[str, None] = {}
        params = self.scenario.params
        for name in lists[0]:
            origin, preload = (
                (f"lav_data()[{name!r}]", params.lav.preload) if name else ("val_data()", params.val.preload)
            )
            with ExitStack() as stack:
                pipelines = [
                    stack.enter_context(
                        open_pipeline(
                            group[0].scenario,
                            data[name],
                            origin,
                            mode=Mode.EVALUATION,
                            seed=group[0].model.seed,
                            again=partial(_again, group[0].scenario, name),
                            preload=preload,
                            limit=_limit(params, name),
                        )
                    )
                    for group, data in zip(self._groups, lists, strict=True)
                ]
                scores.append(self._score([pipeline.dataset() for pipeline in pipelines], name, origin, stored))
                skipped |= dict.fromkeys(text for pipeline in pipelines if (text := pipeline.skipped()))
        return scores, list(skipped)

    def _score(self, datasets: list[Dataset], name: str, origin: str, stored: Stored | None) -> ListScore:
        scenario, voters = self.scenario, self.voters
        if not datasets[0].specs()[1]:
            raise DataError(
                f"{type(scenario).__name__}.{origin} has no targets to compare with. To predict, run aip predict."
            )
        evaluator = check_evaluator(scenario.evaluator())
        if self._on_results:
            check_results_evaluator(evaluator, type(scenario).__name__)
        shown = show_samples(scenario, evaluator, len(datasets[0]))
        recorder = None if stored is None else Recorder(shown or evaluator, stored, name)
        receiver = recorder or shown or evaluator
        together = None if self._on_results else _scorer(voters[0], datasets[0], receiver)
        alone = [
            _scorer(voter, datasets[number], voter.scenario.evaluator())
            for voter, number in zip(voters, self._group_of, strict=True)
        ]
        penalty = False
        for blocks, sides, answers in self._answers(datasets, _batch_size(scenario.params, datasets[0])):
            known: list[dict[str, Any]] = [
                {
                    "targets": {key: column[0] for key, column in block.targets.items()},
                    "weights": {key: column[0] for key, column in block.weights.items()},
                    "meta": block.meta,
                    "inputs": side,
                }
                for block, side in zip(blocks, sides, strict=True)
            ]
            for each, answer, number in zip(alone, answers, self._group_of, strict=True):
                extra = answer.member.member.extras(sides[number])
                penalty = penalty or bool(extra.penalty)
                each.add(Answers(outputs=answer.outputs, masks=extra.masks, penalty=extra.penalty, **known[number]))
            if together is not None:
                joint = vote(scenario, [answer.outputs for answer in answers])
                together.add(Answers(outputs=joint, masks=answers[0].masks, **known[0]))
            elif receiver is not None:
                results = [result for result, _, _ in joint_results(answers, Mode.EVALUATION)]
                receiver.update_results(known[0]["targets"], results, blocks[0].meta)
            if recorder is not None:
                recorder.add_rows("masks", {} if together is None else answers[0].masks)
                recorder.add_rows("weights", known[0]["weights"])
        values = result_values(evaluator) if together is None and evaluator is not None else {}
        return ListScore(
            name=name,
            samples=len(datasets[0]),
            values=values if together is None else together.values(),
            report=evaluator.report() if evaluator is not None else "",
            notes=(RESULTS_ONLY,) if together is None else (NO_PENALTY,) if penalty else (),
            shown=() if shown is None else tuple(shown.samples),
            models={str(voter.model.path): each.values() for voter, each in zip(voters, alone, strict=True)},
        )


def _scorer(voter: EnsembleMember, dataset: Dataset, evaluator: Evaluator | None) -> Scorer:
    scenario, about = voter.scenario, voter.model.about
    targets, preprocess = list(dataset.specs()[1]), loss_inputs(voter.model, scenario)
    return Scorer(scenario, trained_outputs(about), targets, voter.member.outputs, evaluator, preprocess)


def _again(scenario: Scenario, name: str) -> Any:
    return lav_lists(scenario)[name]


def _limit(params: ScenarioParams, name: str) -> int | None:
    return params.lav.limit if name or params.lav.limit is not None else params.val.limit


def _batch_size(params: ScenarioParams, dataset: Dataset) -> int:
    return evaluation_batch_size(dataset, params.lav.batch_size, params.val.batch_size, params.train.batch_size)


def _listed(lists: Any) -> str:
    return ", ".join(name or "val" for name in lists)


@author_errors()
def run_lav(
    model: ModelDir, scenario: Scenario, *, eager: bool = False, stored: Stored | None = None
) -> tuple[list[ListScore], list[str]]:
    """Score a model on each LAV dataset of the scenario.

    Batches are those of validation in training, so the results are equal too.

    Args:
        model: model to load.
        scenario: scenario made with the parameters to apply the model with.
        eager: if True, do not compile, to debug a scenario.
        stored: storage for the targets and outputs, or None.

    Returns:
        the scores of each list, and for each list with omitted samples a sentence about them.

    Raises:
        UsageError: the model cannot be loaded.
        DataError: the data is missing or does not fit the model.
    """
    graph = load_graph(model, scenario)
    params = scenario.params
    scores: list[ListScore] = []
    skipped: list[str] = []
    split = fold_of(model.about) if lav_data_of(scenario) is None else None
    lists = lav_lists(scenario) if split is None else {"": None}
    for name, data in lists.items():
        origin = "train_data()" if split is not None else f"lav_data()[{name!r}]" if name else "val_data()"
        preload = params.lav.preload if name else params.val.preload
        limit = _limit(params, name)
        if split is None:
            opened = open_pipeline(
                scenario,
                data,
                origin,
                mode=Mode.EVALUATION,
                seed=model.seed,
                again=partial(_again, scenario, name),
                preload=preload,
                limit=limit,
            )
        else:
            opened = open_held_out(scenario, split, seed=model.seed, limit=limit)
        with opened as pipeline:
            dataset = pipeline.dataset()
            evaluation = _evaluation(graph, model, scenario, dataset, _batch_size(params, dataset), origin, eager)
            evaluator = check_evaluator(scenario.evaluator())
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
            f"{kind}.{origin} has the inputs {_names(inputs)}, but the model takes {_names(graph.inputs)}. Use "
            "data with the inputs that the model was trained on."
        )
    if not targets:
        raise DataError(f"{kind}.{origin} has no targets to compare with. To predict, run aip predict.")
    trained, there = trained_outputs(model.about), graph.outputs
    objective = Objective(scenario, trained, list(targets), given=there, preprocess=loss_inputs(model, scenario))
    terms, example = _first_sample(objective, graph, dataset, f"{kind}.{origin}")
    distribution = Distribution()
    make = metric_sets(scenario, trained, list(targets), objective, terms, example)
    metrics = ReplicaMetrics(make, distribution)
    return Evaluation(
        graph, dataset, objective, metrics, batch_size=batch_size, distribution=distribution, eager=eager
    )  # fmt: skip


def loss_inputs(model: ModelDir, scenario: Scenario) -> Preprocessing | None:
    """Return the preprocessing of a model for `loss_values`, which receives the inputs of `build` as in training."""
    return load_preprocessing(model.home, model.about) if has_loss_values(type(scenario)) else None


def _first_sample(
    objective: Objective, graph: Model, dataset: Dataset, origin: str
) -> tuple[Mapping[str, LossTerm], Example]:
    """Return the losses, targets, outputs and weights of one sample. Raise an error for anything that does not fit."""
    sides = dataset.known().batch(np.arange(1)).sides
    inputs, targets, weights = ({name: tf.constant(column) for name, column in side.items()} for side in sides)
    try:
        outputs = graph(inputs, training=False)
        return objective(inputs, targets, outputs, weights, 1.0), (targets, outputs, weights)
    except AipError:
        raise
    except Exception as error:
        given = ", ".join(f"{name or 'inputs'} {tuple(value.shape[1:])}" for name, value in inputs.items())
        reason = located_sentence(error)
        raise DataError(f"The model cannot process the samples of {origin} ({given}): {reason}") from error


class Recorder(Evaluator):
    """Evaluator that stores its inputs batch by batch.

    Args:
        evaluator: evaluator that receives all calls too, or None.
        stored: storage.
        name: name of the list.
    """

    def __init__(self, evaluator: Evaluator | None, stored: Stored, name: str) -> None:
        self._evaluator = evaluator
        self._stored = stored
        self._name = name
        self._first = len(stored)
        self._batches = 0

    def update(self, targets: Mapping[str, Any], outputs: Mapping[str, Any], meta: Sequence[Any] | None) -> None:
        """Store a batch."""
        size = len(next(iter(outputs.values())))
        self._store(
            targets, "outputs", [{name: column[row] for name, column in outputs.items()} for row in range(size)], meta
        )
        if self._evaluator is not None:
            self._evaluator.update(targets, outputs, meta)

    def update_results(
        self, targets: Mapping[str, Any], results: Sequence[Mapping[str, Any]], meta: Sequence[Any] | None
    ) -> None:
        """Store a batch of joint results."""
        self._store(targets, "predictions", results, meta)
        if self._evaluator is not None:
            self._evaluator.update_results(targets, results, meta)

    def _store(
        self, targets: Mapping[str, Any], group: str, rows: Sequence[Mapping[str, Any]], meta: Sequence[Any] | None
    ) -> None:
        for row, values in enumerate(rows):
            self._stored.add_sample(
                index=len(self._stored) - self._first,
                batch=self._batches,
                list_name=self._name,
                meta=None if meta is None else meta[row],
            )
            self._stored.add_values("targets", {name: column[row] for name, column in targets.items()})
            self._stored.add_values(group, values)
        self._batches += 1

    def result(self) -> dict[str, float]:
        """Return the result of the evaluator."""
        return {} if self._evaluator is None else self._evaluator.result()

    def add_rows(self, group: str, columns: Mapping[str, Any]) -> None:
        """Add columns to the last batch, such as masks or weights: arrays of shape [batch, ...] by name."""
        for name, column in columns.items():
            for row in column:
                self._stored.add_values(group, {name: row})

    def add_extras(self, graph: Model, dataset: Dataset, batching: Batching) -> None:
        """Store the weights, and the penalty and masks if the model has any, which runs the model a second time."""
        extra = has_extras(graph)
        if not extra and not dataset.specs()[2]:
            return
        member = LoadedModel(graph)
        loader = DataLoader(dataset, SampleOrder(len(dataset), seed=0, shuffle=False), batching)
        row = self._first
        for block in loader.blocks(0, chunk=1):
            found = member.extras({name: column[0] for name, column in block.inputs.items()}) if extra else None
            self.add_rows("weights", {name: column[0] for name, column in block.weights.items()})
            if found is None:
                continue
            self.add_rows("masks", found.masks)
            self._stored.penalty[row : row + block.batch_size] = [found.penalty] * block.batch_size
            row += block.batch_size


def _names(specs: Mapping[str, Any]) -> str:
    return ", ".join(name or "one array" for name in specs) or "none"
