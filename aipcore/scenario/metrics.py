"""Running losses and metrics of a pass over data, named as in Keras' history."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import keras
import numpy as np
import tensorflow as tf
from keras.src.trainers import compile_utils

from aipcore.distributed.strategy import Distribution
from aipcore.errors import AipError, ScenarioError, located_sentence
from aipcore.scenario.keras_names import check_metric_name
from aipcore.scenario.losses import ONE, SAMPLES, LossTerm, Objective, Tensors, mask_of, target_of
from aipcore.scenario.model import by_output
from aipcore.scenario.scenario import Scenario

Example = tuple[Tensors, Tensors, Tensors]
"""Targets, outputs and sample weights of a batch, by name."""


@attrs.frozen(eq=False)
class LossSums:
    """The sums of a batch's losses and their denominators, one scalar each; see `LossMean.sums`."""

    sums: list[Any]
    denominators: list[Any]

    def scaled(self, factor: Any) -> LossSums:
        """Return all sums multiplied by a scalar."""
        return LossSums([each * factor for each in self.sums], [each * factor for each in self.denominators])

    def stacked(self) -> Any:
        """Return all sums in one tensor without a gradient, of shape [2 * losses]."""
        return tf.stop_gradient(tf.stack([*self.sums, *self.denominators]))

    @classmethod
    def unstacked(cls, stacked: Any, losses: int) -> LossSums:
        """Return the sums from a tensor made by `stacked`."""
        scalars = tf.unstack(stacked, num=2 * losses)
        return cls(scalars[:losses], scalars[losses:])

    def over_replicas(self, distribution: Distribution) -> LossSums:
        """Return the sums of the whole batch, given those of this replica's part."""
        if distribution.replicas == 1:
            return self
        return LossSums.unstacked(distribution.sum([self.stacked()])[0], len(self.sums))


class LossMean(keras.metrics.Metric):  # type: ignore[misc]
    """Mean losses of a pass: each batch is weighted by its samples, as in Keras' history.

    The batches of an accumulation group count as one batch. All state adds up over replicas.

    Attributes:
        count: the number of losses, plus one if there is a penalty.

    Args:
        terms: the losses of any batch by name.
        objective: the objective with the factor of each loss in the total.
        penalty: True if regularizers, `add_loss` or input gradients add to the loss.
    """

    def __init__(self, terms: Mapping[str, LossTerm], objective: Objective, *, penalty: bool) -> None:
        super().__init__(name="loss")
        self.names = list(terms)
        self.kinds = [term.denominator_kind for term in terms.values()]
        self.penalty = penalty
        self.factors = [objective.loss_weight(name) for name in terms] + [1.0] * penalty
        self.count = len(self.factors)
        self.totals = self.add_variable((self.count,), "zeros", name="totals")
        self.samples = self.add_variable((), "zeros", name="samples")
        self.group_sums = self.add_variable((2 * self.count,), "zeros", name="group_sums")
        self.group_samples = self.add_variable((), "zeros", name="group_samples")

    def sums(self, terms: Mapping[str, LossTerm], penalty: Any, samples: Any) -> LossSums:
        """Return the sums and denominators of a batch, or of a replica's part of it.

        Args:
            terms: the losses by name.
            penalty: a scalar, for losses without a penalty of their own; ignored if constructed without a penalty.
            samples: the samples in the batch or part, a float32 scalar.
        """
        sums = [term.total for term in terms.values()]
        denominators = [term.denominator for term in terms.values()]
        if self.penalty:
            own = [term.penalty for term in terms.values() if term.penalty is not None]
            penalty = tf.add_n(own) if own else penalty
            sums, denominators = [*sums, penalty * samples], [*denominators, samples]
        return LossSums(sums, denominators)

    def scales(self, added: LossSums) -> list[Any]:
        """Return the factor of each sum: one over the added denominators, 0 for a batch without values."""
        kinds = [*self.kinds, SAMPLES]
        return [
            tf.constant(1.0) if kind == ONE else tf.math.reciprocal_no_nan(tf.stop_gradient(each))
            for each, kind in zip(added.denominators, kinds, strict=False)
        ]

    def means(self, sums: LossSums, scales: list[Any]) -> list[Any]:
        """Return each loss: its sum divided by its denominator."""
        return [each * scale for each, scale in zip(sums.sums, scales, strict=True)]

    def total(self, means: list[Any]) -> Any:
        """Return the total loss to minimise, a scalar."""
        return tf.add_n([m if factor == 1 else m * factor for m, factor in zip(means, self.factors, strict=True)])

    def add_batch(self, means: list[Any], samples: Any) -> None:
        """Add a whole batch: its losses, and the number of its samples on this replica."""
        self.totals.assign_add(tf.stack(means) * samples)
        self.samples.assign_add(samples)

    def add_to_group(self, sums: LossSums, samples: Any) -> None:
        """Add a batch of an accumulation group, or this replica's part of it."""
        self.group_sums.assign_add(sums.stacked())
        self.group_samples.assign_add(samples)

    def close_group(self, means: list[Any]) -> None:
        """Add the current group, with the given losses, as one batch."""
        self.add_batch(means, self.group_samples.value)
        self.group_sums.assign(tf.zeros_like(self.group_sums))
        self.group_samples.assign(0.0)

    def result(self) -> dict[str, Any]:
        """Return the total, and each loss if there are several; an unfinished group counts as a batch."""
        # On the host, since results are read after each call of the compiled loop.
        totals, samples, group_sums, group = (
            variable.numpy() for variable in (self.totals, self.samples, self.group_sums, self.group_samples)
        )
        sums, denominators = np.split(group_sums, 2)
        denominators = np.where([kind == ONE for kind in self.kinds] + [False] * self.penalty, 1.0, denominators)
        with np.errstate(all="ignore"):
            whole = np.divide(sums, denominators, out=np.zeros_like(sums), where=denominators != 0)
            means = (totals + whole * group) / max(samples + group, 1)
            total = float((means * self.factors).sum())
        each = {f"{name}_loss": means[place] for place, name in enumerate(self.names)} if len(self.names) > 1 else {}
        return {"loss": total, **each}

    def tensors(self) -> dict[str, Any]:
        """Return the values of `result` as float32 scalars, within a compiled function, after a complete group."""
        means = self.totals.value / tf.maximum(self.samples.value, 1.0)
        each = {f"{name}_loss": means[place] for place, name in enumerate(self.names)} if len(self.names) > 1 else {}
        return {"loss": tf.reduce_sum(means * self.factors), **each}


class UpdateLosses:
    """Mean losses of a pass, of several updates.

    Attributes:
        parts: the mean loss of each update, by its name. The repetitions of an update count as batches.
    """

    def __init__(self, parts: Mapping[str, LossMean]) -> None:
        self.parts = dict(parts)

    @property
    def variables(self) -> list[Any]:
        """The state variables."""
        return [variable for part in self.parts.values() for variable in part.variables]

    def reset_state(self) -> None:
        """Reset all state."""
        for part in self.parts.values():
            part.reset_state()

    def result(self) -> dict[str, Any]:
        """Return the sum of the losses, and each loss, with the penalties of its layers."""
        each = {f"{name}_loss": part.result()["loss"] for name, part in self.parts.items()}
        return {"loss": sum(each.values()), **each}

    def tensors(self) -> dict[str, Any]:
        """Return the values of `result` as float32 scalars, within a compiled function, after a complete group."""
        each = {f"{name}_loss": part.tensors()["loss"] for name, part in self.parts.items()}
        return {"loss": tf.add_n(list(each.values())), **each}


class MetricSet:
    """Running losses and metrics of a scenario, over one epoch or one validation, named as in Keras' history.

    Args:
        scenario: the scenario that defines the metrics.
        outputs: the output names of the trained model.
        targets: the target names of the data.
        losses: the running mean of the losses, or None for none.
        example: targets, outputs and sample weights of any batch, by name: tensors of shape [batch, ...]. Metric names
            are resolved by their shapes, and each metric is updated once with them, so that mismatches are found here.
        like: a set of the same scenario whose names are used.

    Raises:
        ScenarioError: the metrics do not match the outputs, or cannot process their values.
    """

    def __init__(
        self,
        scenario: Scenario,
        outputs: list[str],
        targets: list[str],
        losses: LossMean | UpdateLosses | None,
        example: Example,
        *,
        like: MetricSet | None = None,
    ) -> None:
        kind = type(scenario).__name__
        self.losses = losses
        self.example = example
        self._outputs = outputs
        self._targets: dict[str, str] = {}
        given = self._of_outputs(scenario.metrics(), example, targets, f"{kind}.metrics()")
        weighted = self._of_outputs(scenario.weighted_metrics(), example, targets, f"{kind}.weighted_metrics()")
        self._metrics = compile_utils.CompileMetrics(given, weighted, output_names=outputs)
        try:
            self._metrics.build(*self._trees(*example[:2]))
        except (ValueError, TypeError) as error:
            raise ScenarioError(f"The metrics of {kind} cannot be created: {located_sentence(error)}") from error
        if like is not None:
            # Keras numbers the names of objects made without one.
            for metric, first in zip(self.metrics, like.metrics, strict=True):
                if metric is first:
                    raise ScenarioError(
                        f"{kind}.metrics() returned the same {type(metric).__name__} twice. Create new metrics in each "
                        "call: training and validation need separate ones."
                    )
                metric.name = first.name
        self._try_out(kind, example)
        self.names = list(self.result())

    def _of_outputs(self, given: Any, example: Example, targets: list[str], what: str) -> Any:
        """Return metrics by output, for the available outputs."""
        chosen: dict[str, list[Any]] = {}
        for output, metrics in by_output(given, self._outputs, what, several=True).items():
            each = list(metrics) if isinstance(metrics, list | tuple) else [] if metrics is None else [metrics]
            if output in example[1] and each:
                self._targets[output] = target_of(output, targets)
                for metric in each:
                    check_metric_name(metric, what)
                chosen[output] = [m() if isinstance(m, type) else m for m in each]
        return chosen or None

    def _trees(self, targets: Tensors, outputs: Tensors, weights: Tensors | None = None) -> tuple[Any, ...]:
        """Return targets, outputs and weights for Keras: in the structure of the trained model's outputs."""
        # No metric reads the stand-ins of missing outputs or of outputs without a target.
        some = next(iter(outputs.values()))
        predicted = {name: outputs.get(name, some) for name in self._outputs}
        truth = {name: targets[self._targets[name]] if name in self._targets else some for name in self._outputs}
        trees = (truth, predicted)
        if not weights:
            return trees
        chosen = {name: weights.get(name, weights.get("")) for name in self._outputs}
        return (*trees, {name: _of_positions(weight, predicted[name]) for name, weight in chosen.items()})

    def _try_out(self, kind: str, example: Example) -> None:
        """Update each metric with the example, which creates the variables of some and reveals their results."""
        weights = self._trees(*example)[2] if example[2] else {}
        for metric, output, weighted in self._each():
            truth, predicted = example[0][self._targets[output]], example[1][output]
            try:
                weight = weights.get(output) if weighted else None
                metric.update_state(truth, predicted, sample_weight=weight)
                shape = np.shape(result) if not isinstance(result := metric.result(), Mapping) else ()
                _flat(metric.name, result) if len(shape) < 2 else None
            except AipError:
                raise
            except Exception as error:
                raise ScenarioError(
                    f"The metric {metric.name} of {kind} does not accept an output of shape {tuple(predicted.shape)} "
                    f"and a target of shape {tuple(truth.shape)}: {located_sentence(error)}"
                ) from error
            if len(shape) > 1:
                raise ScenarioError(
                    f"The metric {metric.name} of {kind} has a result of shape {shape}. Return a number or a vector, "
                    "or use an evaluator."
                )
        self.reset()

    def _each(self) -> list[tuple[Any, str, bool]]:
        """Return each metric with its output, and True if sample weights apply to it."""
        # Keras determines the order of several outputs.
        order = self._metrics._resolved_output_names or self._outputs
        lists = (self._metrics._flat_metrics, self._metrics._flat_weighted_metrics)
        return [
            (metric, output, each is lists[1])
            for each in lists
            for output, metrics in zip(order, each, strict=True)
            if metrics
            for metric in metrics.metrics
        ]

    @property
    def metrics(self) -> list[Any]:
        """The metrics, without the losses."""
        metrics: list[Any] = self._metrics.metrics
        return metrics

    @property
    def by_name(self) -> dict[str, Any]:
        """The metrics by log name, without the losses."""
        return dict(zip(self._metrics.result(), self.metrics, strict=True))

    def update(self, targets: Tensors, outputs: Tensors, weights: Tensors) -> None:
        """Update with one batch. Sample weights by output, "" for all, apply to the weighted metrics."""
        if self.metrics:
            self._metrics.update_state(*self._trees(targets, outputs, weights))

    @property
    def variables(self) -> list[Any]:
        """The state variables of losses and metrics."""
        return [*(self.losses.variables if self.losses is not None else ()), *self._metrics.variables]

    def reset(self) -> None:
        """Reset all state."""
        if self.losses is not None:
            self.losses.reset_state()
        self._metrics.reset_state()

    def result(self) -> dict[str, float]:
        """Return the current values.

        A metric with a vector as result, such as `F1Score(average=None)`, has one value per class: NAME_0, NAME_1, ...
        A metric with a mapping as result has one value per key, under that key.

        Raises:
            ScenarioError: two values have the same name.
        """
        values: dict[str, float] = {}
        results = {} if self.losses is None else {"": self.losses.result()}
        for name, result in {**results, **self._metrics.result()}.items():
            for key, value in _flat(name, result):
                if key in values:
                    raise ScenarioError(f"Two metrics have the name {key!r}. Rename one of them.")
                values[key] = value
        return values

    def tensors(self) -> dict[str, Any]:
        """Return the values of `result` as scalars, within a compiled function, after a complete accumulation group."""
        values: dict[str, Any] = {} if self.losses is None else self.losses.tensors()
        for name, result in self._metrics.result().items():
            if isinstance(result, Mapping):
                values |= {str(key): value for key, value in result.items()}
            elif (tensor := tf.convert_to_tensor(result)).shape.rank == 0:
                values[name] = tensor
            else:
                values |= {f"{name}_{place}": value for place, value in enumerate(tf.unstack(tensor))}
        return values


def _of_positions(weight: Any, output: Any) -> Any:
    """Return weights with trailing axes of size 1 up to the mask's rank: a sample's weight covers all steps."""
    mask = mask_of(output)
    while weight is not None and mask is not None and weight.shape.rank < mask.shape.rank:
        weight = weight[..., None]
    return weight


def _flat(name: str, result: Any) -> list[tuple[str, float]]:
    if isinstance(result, Mapping):
        return [(str(key), float(value)) for key, value in result.items()]
    array = np.asarray(result)
    if array.ndim == 0:
        return [(name, float(array))]
    return [(f"{name}_{place}", float(value)) for place, value in enumerate(array.tolist())]


def metric_sets(
    scenario: Scenario,
    outputs: list[str],
    targets: list[str],
    objective: Objective,
    terms: Mapping[str, LossTerm],
    example: Example,
    *,
    penalty: bool = True,
) -> Callable[[], MetricSet]:
    """Return a function that makes `MetricSet` objects with the same names.

    Args:
        scenario: the scenario that defines the metrics.
        outputs: the output names of the trained model.
        targets: the target names of the data.
        objective: the losses.
        terms: the objective's losses of any batch; empty for no losses.
        example: targets, outputs and sample weights of that batch.
        penalty: True if the model may add to the losses; see `LossMean`.

    Raises:
        ScenarioError: see `MetricSet`.
    """

    def make(like: MetricSet | None) -> MetricSet:
        losses: LossMean | UpdateLosses | None = LossMean(terms, objective, penalty=penalty) if terms else None
        if objective.separate:
            parts = {name: LossMean({name: term}, objective, penalty=penalty) for name, term in terms.items()}
            losses = UpdateLosses(parts)
        return MetricSet(scenario, outputs, targets, losses, example, like=like)

    first = make(None)
    return lambda: make(first)
