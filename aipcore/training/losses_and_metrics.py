"""The losses and metrics of a run, resolved and tested on its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import tensorflow as tf

from aipcore.data.class_weight import Table
from aipcore.data.dataset import Dataset
from aipcore.data.loader import DataLoader
from aipcore.data.strings import STRING
from aipcore.errors import AipError, DataError, ScenarioError, located_sentence
from aipcore.scenario.evaluator import check_evaluator
from aipcore.scenario.losses import LossTerm, Objective, Tensors
from aipcore.scenario.metrics import Example, MetricSet, metric_sets
from aipcore.scenario.model import (
    Graph,
    by_output,
    symbolic_targets_and_outputs,
)
from aipcore.scenario.scenario import Scenario
from aipcore.scenario.shown_samples import show_samples
from aipcore.scenario.update_losses import UpdateObjective
from aipcore.training.data import RunData
from aipcore.training.params import TrainerParams
from aipcore.training.preprocessing import string_targets
from aipcore.training.sanity import (
    check_data,
    check_first_evaluation,
    check_first_losses,
    check_targets,
    check_weight_names,
)


@attrs.frozen(kw_only=True, eq=False)
class Scoring:
    """The losses and metrics of a run.

    Attributes:
        training: the training losses, which include class weights.
        objective: the validation losses.
        applied: the losses of the prediction graph.
        make_metrics: creates running losses and metrics for the trained model.
        make_applied_metrics: creates them for the prediction graph.
    """

    training: Objective
    objective: Objective
    applied: Objective
    make_metrics: Callable[[], MetricSet]
    make_applied_metrics: Callable[[], MetricSet]


def prepare_scoring(
    scenario: Scenario,
    trainer: TrainerParams,
    data: RunData,
    graph: Graph,
    prediction: Graph,
    weights: Mapping[str, Sequence[Any]],
    seed: int,
) -> Scoring:
    """Resolve losses and metrics, and test them on the data.

    Args:
        scenario: the scenario.
        trainer: the training parameters.
        data: the data of the run.
        graph: the trained model.
        prediction: the model for prediction.
        weights: the weights that each update trains, by its name.
        seed: the seed of the run.

    Raises:
        ScenarioError, DataError: they do not match the model or the data.
    """
    kind, targets = type(scenario).__name__, list(data.train.specs()[1])

    def make_objective(class_weights: Table | None = None) -> Objective:
        if scenario.updates:
            return UpdateObjective(scenario, graph, targets, weights, seed, class_weights=class_weights)
        return Objective(scenario, graph.outputs, targets, class_weights=class_weights)

    objective = make_objective()
    objective.resolve(*symbolic_targets_and_outputs(graph, data.train))
    named = _named(kind, data)
    for dataset, origin in named:
        specs = dataset.specs()[1]
        for _, name in objective.pairs.values():
            if name in specs and specs[name].dtype == STRING:
                raise DataError(string_targets(name, origin))
    if not trainer.skip_sanity_check:
        for dataset, origin in named:
            check_data(dataset.known(), origin)
            check_targets(objective, graph, dataset.known(), origin)
    first = _FirstBatch.of(data.loader)
    terms, outputs = first.run(objective, graph, kind)
    weighted = by_output(scenario.weighted_metrics(), graph.outputs, f"{kind}.weighted_metrics()", several=True)
    for dataset, origin in named:
        check_weight_names(dataset.specs()[2], graph.outputs, {*terms, *weighted}, origin)
    if not trainer.skip_sanity_check:
        for dataset, origin in named:
            check_first_losses(objective, graph, dataset.known(), origin, data.batching.batch_size)
    # A custom layer may call `add_loss` only in training, which has not run yet.
    own = any(not type(layer).__module__.startswith("keras.") for layer in graph.model._flatten_layers())
    penalty = bool(graph.model.losses or trainer.input_gradient_penalty or own)
    make_metrics = metric_sets(
        scenario, graph.outputs, targets, objective, terms, first.example(outputs), penalty=penalty
    )
    applied, make_applied_metrics = objective, make_metrics
    if prediction is not graph or objective.separate:
        # Only the losses of its outputs are used. `aip lav` has only the outputs, not the parts of the model.
        applied = Objective(scenario, graph.outputs, targets, given=prediction.outputs)
        terms, outputs = first.run(applied, prediction, kind)
        make_applied_metrics = metric_sets(scenario, graph.outputs, targets, applied, terms, first.example(outputs))
    # Without LAV during training, `aip lav` would be the first to use it.
    evaluator = check_evaluator(scenario.evaluator())
    if data.lav and not trainer.skip_sanity_check:
        known, size = named[0 if data.val is None else 1][0].known(), data.batching.batch_size
        shown = show_samples(scenario, None, min(size, len(known)))
        check_first_evaluation(
            evaluator, prediction, known, kind, size, names=make_applied_metrics().names, shown=shown
        )
    training = objective
    if data.class_weights is not None:
        training = make_objective(data.class_weights)
        training.resolve(*symbolic_targets_and_outputs(graph, data.train))
    return Scoring(
        training=training,
        objective=objective,
        applied=applied,
        make_metrics=make_metrics,
        make_applied_metrics=make_applied_metrics,
    )


def _named(kind: str, data: RunData) -> list[tuple[Dataset, str]]:
    """Return the datasets with their names in error messages."""
    named = [(data.train, f"{kind}.train_data()")]
    if data.val is not None:
        named.append((data.val, f"{kind}.val_data()"))
    named += [(dataset, f"{kind}.lav_data()[{name!r}]") for name, dataset in data.lav.items() if name]
    return named


@attrs.frozen(kw_only=True, eq=False)
class _FirstBatch:
    """The first batch of a run, by name: tensors of shape [batch, ...]."""

    inputs: Tensors
    targets: Tensors
    weights: Tensors
    samples: int

    @classmethod
    def of(cls, loader: DataLoader) -> _FirstBatch:
        """Read the first batch."""
        block = next(loader.blocks(0, chunk=1))
        inputs, targets, weights = (
            {name: tf.constant(column[0]) for name, column in side.items()}
            for side in (block.inputs, block.targets, block.weights)
        )
        return cls(inputs=inputs, targets=targets, weights=weights, samples=block.batch_size)

    def example(self, outputs: Tensors) -> Example:
        """Return the targets, a model's outputs for them, and the weights."""
        return self.targets, outputs, self.weights

    def run(self, objective: Objective, graph: Graph, kind: str) -> tuple[dict[str, LossTerm], Tensors]:
        """Return the losses and outputs of the batch, without compiling, to find mismatches.

        Raises:
            ScenarioError: the losses cannot be computed from targets and outputs.
        """
        outputs: Tensors = {}
        try:
            outputs = graph(self.inputs, training=False)
            return objective(self.inputs, self.targets, outputs, self.weights, float(self.samples)), outputs
        except AipError:
            raise
        except Exception as error:
            if texts := [name for name, value in self.targets.items() if value.dtype == tf.string]:
                raise ScenarioError(
                    f"The targets {texts[0] and repr(texts[0]) + ' '}of {kind} are text, which the loss does not "
                    "accept. Convert them to numbers in processors()."
                ) from error
            strings = [name for name, value in self.inputs.items() if value.dtype == tf.string]
            if strings and not outputs:
                raise ScenarioError(
                    f"The model of {kind} cannot process its input{strings[0] and f' {strings[0]!r}'}, which holds "
                    f"strings: {located_sentence(error)} Begin with a layer that takes strings, such as "
                    "TextVectorization or StringLookup."
                ) from error
            if outputs and (text := objective.misfit(self.targets, outputs)) is not None:
                raise ScenarioError(text) from error
            shapes = ", ".join(f"{name or 'targets'} {tuple(value.shape)}" for name, value in self.targets.items())
            made = ", ".join(f"{name or 'output'} {tuple(value.shape)}" for name, value in outputs.items())
            raise ScenarioError(
                f"The losses of {kind} cannot be computed from the model's output ({made}) and the targets ({shapes}): "
                f"{located_sentence(error)}"
            ) from error
