"""Losses of a scenario by output, computed as in Keras but kept as sum and denominator.

Keras reduces a loss to one number per batch. Here a loss stays a pair: the sum of its values, and Keras' divisor of
that sum. Both add up over the batches of an accumulation group and over the parts of a batch on several replicas. The
result is the loss of the corresponding single large batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import attrs
import keras
import tensorflow as tf
from keras.src.trainers import compile_utils

from aipcore.data.class_weight import Table
from aipcore.errors import ScenarioError
from aipcore.scenario.author_names import has_loss_values
from aipcore.scenario.keras_names import unknown_name
from aipcore.scenario.model import by_output, listed
from aipcore.scenario.scenario import Scenario

Tensors = Mapping[str, Any]
"""The columns of a batch by name, each of shape [batch, ...]."""

SAMPLES = "samples"
"""The `LossTerm.denominator_kind` of a loss divided by a fixed multiple of the number of samples."""

ONE = "one"
"""The `LossTerm.denominator_kind` of a loss without division."""

ONE_HOT_LOSSES = ("categorical_crossentropy", "categorical_focal_crossentropy", "categorical_hinge", "kl_divergence")
"""Keras functions that compare a row of scores with a row of the same length."""

EACH = "each"
"""The `LossTerm.denominator_kind` of a loss whose denominator depends on its values."""


@attrs.frozen(kw_only=True, eq=False)
class LossTerm:
    """One loss of a batch.

    Attributes:
        values: the values before reduction, of shape [], [batch] or [batch, ...], neither weighted nor masked.
        total: the sum of the weighted, unmasked values, a float32 scalar.
        denominator: Keras' divisor of the sum, a float32 scalar: the number of values or of unmasked values, the sum of
            the weights, the number of samples for a value that is already a mean, or 1.
        denominator_kind: `SAMPLES`, `ONE` or `EACH`; determines how denominators of several batches combine.
        penalty: the penalty of the layers that belong to this loss, a float32 scalar; None if the model has one for all
            losses.
    """

    values: Any
    total: Any
    denominator: Any
    denominator_kind: str
    penalty: Any = None


class Objective:
    """The losses of a scenario by name, as in `model.compile(loss=..., loss_weights=...)`.

    Args:
        scenario: the scenario that defines the losses.
        outputs: the output names of the trained model.
        targets: the target names of the data.
        given: the available outputs, if another model is applied; losses of missing outputs are left out.
        class_weights: a weight per class, of shape [classes] in float32, used as the weight of each sample.
        preprocess: maps the given inputs to those of the model, for `loss_values`; None if they are the same.

    Raises:
        ScenarioError: losses or their weights do not match the outputs.

    Attributes:
        separate: True if each loss is minimised alone, by its own update. Such losses need the trained Keras model, so
            they are left out where it is not available.
    """

    separate = False

    def __init__(
        self,
        scenario: Scenario,
        outputs: list[str],
        targets: list[str],
        *,
        given: Sequence[str] | None = None,
        class_weights: Table | None = None,
        preprocess: Callable[[Tensors], Tensors] | None = None,
    ) -> None:
        self._scenario = scenario
        self._kind = type(scenario).__name__
        self._custom = bool(scenario.updates) or has_loss_values(type(scenario))
        self._preprocess = preprocess
        self._computable = not scenario.updates and (given is None or set(outputs) <= set(given))
        self._identifiers: dict[str, Any] = {}
        self._targets: dict[str, str] = {}
        self._losses: dict[str, Any] = {}
        self._fixed: dict[str, bool] = {}
        self._class_weights = class_weights
        loss_weights = scenario.loss_weights()
        if self._custom:
            if loss_weights is not None and not isinstance(loss_weights, Mapping):
                raise ScenarioError(
                    f"{self._kind}.loss_weights() returned {loss_weights!r}. Return a mapping from the names of "
                    "loss_values() to numbers."
                )
            self._weights = _numbers(loss_weights, f"{self._kind}.loss_weights()")
            return
        losses = {
            output: loss
            for output, loss in by_output(scenario.losses(), outputs, f"{self._kind}.losses()").items()
            if loss is not None
        }
        if not losses:
            raise ScenarioError(f"{self._kind}.losses() returned no loss. Return a loss, or a mapping by output name.")
        self._weights = _loss_weights(loss_weights, list(losses), outputs, f"{self._kind}.loss_weights()")
        for output, loss in losses.items():
            if given is None or output in given:
                self._identifiers[output] = loss
                self._targets[output] = target_of(output, targets)

    def resolve(self, targets: Tensors, outputs: Tensors) -> None:
        """Resolve names, classes and functions to Keras losses, by the shapes of anything with a `shape`.

        Raises:
            ScenarioError: a name is not a loss, or a reduction does not give a single number to minimise.
        """
        for output, loss in self._identifiers.items():
            if output in self._losses:
                continue
            made = keras_loss(loss, targets[self._targets[output]], outputs[output], f"{self._kind}.losses()")
            if getattr(made, "reduction", "sum") in (None, "none"):
                raise ScenarioError(
                    f"The loss {made.name} of {self._kind} has reduction None, so its result is not a single "
                    'number. Use reduction="sum_over_batch_size" (the default) or "sum".'
                )
            self._losses[output] = made
            # The values of a Keras loss grow only with the batch if no other axis varies.
            shapes = targets[self._targets[output]].shape[1:], outputs[output].shape[1:]
            self._fixed[output] = _is_of_keras(made) and not any(None in shape for shape in shapes)

    @property
    def pairs(self) -> dict[str, tuple[Any, str]]:
        """The Keras loss and the target name by output; empty for a scenario's own loss values."""
        return {output: (loss, self._targets[output]) for output, loss in self._losses.items()}

    def misfit(self, targets: Tensors, outputs: Tensors) -> str | None:
        """Return an error sentence if a loss expects another form of class targets than the data has, else None."""
        for output, (loss, name) in self.pairs.items():
            target, scores = targets[name].shape, outputs[output].shape
            called = getattr(getattr(loss, "fn", loss), "__name__", "")
            classes = scores[-1] if scores.rank else None
            start = f"The loss {called} of {self._kind}"
            if target == scores and called == "sparse_categorical_crossentropy":
                return (
                    f"{start} takes class indices, but the targets are rows of {classes} values, one for each class. "
                    "Use categorical_crossentropy, or turn the rows into indices: numpy.argmax(targets, axis=-1)."
                )
            if called in ONE_HOT_LOSSES and scores.rank > 1 and target in (scores[:-1], [*scores[:-1], 1]):
                return (
                    f"{start} takes a row of {classes} values for each target, but the targets are class indices. Use "
                    "sparse_categorical_crossentropy, or turn the indices into rows: "
                    f"keras.utils.to_categorical(targets, {classes})."
                )
        return None

    def computable(self, losses: Sequence[str]) -> list[str]:
        """Return the losses of the trained model that can be computed here."""
        if self._custom:
            return list(losses) if self._computable else []
        return [name for name in losses if name in self._identifiers]

    def loss_weight(self, name: str) -> float:
        """Return the factor of a loss in the total."""
        return 1.0 if self._weights is None else float(self._weights[name])

    def sample_weights(self, targets: Tensors, weights: Tensors) -> Tensors:
        """Return the sample weights of a batch by output, from the data or from the class weights."""
        if self._class_weights is None:
            return weights
        ids = class_ids(next(iter(targets.values())))
        known = (ids >= 0) & (ids < len(self._class_weights))
        table = tf.constant(self._class_weights)
        return {"": tf.where(known, tf.gather(table, tf.where(known, ids, 0)), 1.0)}

    def __call__(
        self, inputs: Tensors, targets: Tensors, outputs: Tensors, weights: Tensors, samples: Any, part: Any = None
    ) -> dict[str, LossTerm]:
        """Return the losses of a batch by name.

        Args:
            inputs: by name, tensors of shape [batch, ...].
            targets: likewise.
            outputs: likewise, the model's outputs.
            weights: sample weights by output name, of shape [batch] or [batch, ...]; the name "" applies to all.
            samples: the batch size, a float32 scalar.
            part: the part of the batch, used only by losses of updates.
        """
        del part
        if self._custom:
            return self._own_values(inputs, targets, outputs, weights, samples) if self._computable else {}
        self.resolve(targets, outputs)
        terms = {}
        for output, loss in self._losses.items():
            weight = weights.get(output, weights.get(""))
            target = targets[self._targets[output]]
            terms[output] = _term_of(loss, target, outputs[output], weight, samples, fixed=self._fixed[output])
        return terms

    def _own_values(
        self, inputs: Tensors, targets: Tensors, outputs: Tensors, weights: Tensors, samples: Any
    ) -> dict[str, LossTerm]:
        if self._preprocess is not None:
            inputs = self._preprocess(inputs)
        values = self._scenario.loss_values(inputs, targets, outputs)
        if not values or not isinstance(values, Mapping):
            given = "no loss" if isinstance(values, Mapping) else type(values).__name__
            raise ScenarioError(f"{self._kind}.loss_values() returned {given}. Return a mapping from name to values.")
        if self._weights is not None and self._weights.keys() != values.keys():
            raise ScenarioError(
                f"{self._kind}.loss_weights() names {listed(self._weights)}, but loss_values() returns "
                f"{listed(values)}. Give one weight for each loss."
            )
        return {
            name: reduced(
                tf.cast(value, tf.float32), weights.get(name, weights.get("")), mask_of(value), "mean", samples
            )
            for name, value in values.items()
        }


def keras_loss(identifier: Any, target: Any, output: Any, what: str) -> keras.losses.Loss:
    """Return the loss that `model.compile(loss=identifier)` uses for a target and an output of these shapes.

    Raises:
        ScenarioError: `identifier` is not a loss.
    """
    if isinstance(identifier, list | tuple):
        raise ScenarioError(
            f"{what} returned a {type(identifier).__name__} for one output. Return one loss per output, or add "
            "several losses in loss_values()."
        )
    if isinstance(identifier, type) and issubclass(identifier, keras.losses.Loss):
        identifier = identifier()
    try:
        return compile_utils.get_loss(identifier, target, output)
    except (ValueError, TypeError) as error:
        raise ScenarioError(f"{what}: {unknown_name(identifier, 'loss')}") from error


def _term_of(loss: Any, target: Any, output: Any, weight: Any, samples: Any, *, fixed: bool) -> LossTerm:
    if type(loss).__call__ is not keras.losses.Loss.__call__:
        # The loss has its own reduction, which must give one number.
        value = tf.cast(loss(target, output, weight), tf.float32)
        if value.shape.rank:
            raise ScenarioError(
                f"The loss {loss.name} returns values of shape {tuple(value.shape)}. Return one number, or define "
                "call(y_true, y_pred) instead of __call__."
            )
        return LossTerm(values=value, total=value * samples, denominator=samples, denominator_kind=SAMPLES)
    mask = mask_of(output)
    values = loss.call(
        keras.ops.convert_to_tensor(target, dtype=loss.dtype), keras.ops.convert_to_tensor(output, dtype=loss.dtype)
    )
    own = mask_of(values)
    mask = own if mask is None else mask if own is None else tf.logical_and(mask, own)
    values = keras.ops.convert_to_tensor(values, dtype=loss.dtype)
    return reduced(values, weight, mask, loss.reduction, samples, fixed=fixed)


def _is_of_keras(loss: Any) -> bool:
    parts = (type(loss).call, getattr(loss, "fn", type(loss)))
    return all(str(getattr(part, "__module__", "")).startswith("keras.") for part in parts)


def reduced(values: Any, weight: Any, mask: Any, reduction: str, samples: Any, *, fixed: bool = False) -> LossTerm:
    """Return the sum of weighted values and its denominator, by the rules of `keras.losses.Loss`.

    A mask or weight with fewer axes than the values applies along the remaining axes, where Keras would fail.
    """
    factor = None if weight is None else tf.cast(weight, values.dtype)
    if mask is not None:
        valid = tf.cast(mask, values.dtype)
        factor = valid if factor is None else _times(factor, valid)
    if factor is not None:
        widened = values.shape.rank > factor.shape.rank and not (
            values.shape.rank == factor.shape.rank + 1 and values.shape[-1] == 1
        )
        # A single number for the batch is weighted by all of its positions.
        factor = _of_rank(factor, values.shape.rank) if values.shape.rank else factor
        weighted = values * factor
    else:
        weighted = values
    total = tf.cast(tf.reduce_sum(weighted), tf.float32)
    if not weighted.shape.rank:
        # A value that is already a mean is weighted by samples, whatever the reduction.
        return LossTerm(values=values, total=total * samples, denominator=samples, denominator_kind=SAMPLES)
    if reduction == "sum":
        return LossTerm(values=values, total=total, denominator=tf.constant(1.0), denominator_kind=ONE)
    if reduction == "mean_with_sample_weight" and factor is not None:
        counted = tf.broadcast_to(factor, tf.shape(weighted)) if widened else factor
        return LossTerm(
            values=values, total=total, denominator=tf.cast(tf.reduce_sum(counted), tf.float32), denominator_kind=EACH
        )
    count = tf.cast(tf.size(weighted), tf.float32)
    if mask is None:
        kind = SAMPLES if fixed else EACH
        return LossTerm(values=values, total=total, denominator=count, denominator_kind=kind)
    share = tf.cast(tf.size(mask), tf.float32)
    counted = tf.cast(tf.math.count_nonzero(mask), tf.float32) * (count / share)
    return LossTerm(values=values, total=total, denominator=counted, denominator_kind=EACH)


def _times(first: Any, second: Any) -> Any:
    rank = max(first.shape.rank, second.shape.rank)
    return _of_rank(first, rank) * _of_rank(second, rank)


def _of_rank(tensor: Any, rank: int) -> Any:
    """Return a tensor with `rank` axes, by adding or removing trailing axes of size 1."""
    while tensor.shape.rank < rank:
        tensor = tensor[..., None]
    while tensor.shape.rank > rank:
        if tensor.shape[-1] != 1:
            raise ScenarioError(
                f"A mask or a sample weight has shape {tuple(tensor.shape)}, but the loss values have only "
                f"{rank} {'axis' if rank == 1 else 'axes'}. Give one weight per loss value, or one per sample."
            )
        tensor = tensor[..., 0]
    return tensor


def class_ids(target: Any) -> Any:
    """Return the class of each sample as an int64 tensor of shape [batch], as in Keras' `class_weight`.

    Args:
        target: class ids of shape [batch] or [batch, 1], or scores of shape [batch, classes].
    """
    if target.shape.rank > 1 and target.shape[-1] != 1:
        return tf.argmax(target, axis=-1)
    ids = target if target.shape.rank == 1 else tf.squeeze(target, axis=-1)
    return tf.cast(tf.round(ids) if ids.dtype.is_floating else ids, tf.int64)


def mask_of(output: Any) -> Any:
    """Return the mask that Keras attached to an output, of shape [batch, ...], or None."""
    return keras.src.backend.get_keras_mask(output)


def set_mask(output: Any, mask: Any) -> None:
    """Attach a mask to an output, as Keras does."""
    keras.src.backend.set_keras_mask(output, mask)


def _loss_weights(given: Any, losses: list[str], outputs: list[str], what: str) -> dict[str, float] | None:
    if given is None:
        return None
    weights = by_output(given, outputs, what)
    if weights.keys() != set(losses):
        raise ScenarioError(
            f"{what} has weights for {listed(weights)}, but the losses are {listed(losses)}. Give one weight "
            "for each loss."
        )
    return _numbers(weights, what)


def _numbers(weights: Mapping[str, Any] | None, what: str) -> dict[str, float] | None:
    for name, weight in (weights or {}).items():
        if not isinstance(weight, Real):
            raise ScenarioError(f"{what} has {weight!r} for {name or 'the output'!r}. Use a number.")
    return None if weights is None else {name: float(weight) for name, weight in weights.items()}


def target_of(output: str, targets: list[str]) -> str:
    """Return the target for an output: the one of the same name, or the only one."""
    if output in targets:
        return output
    if len(targets) == 1:
        return targets[0]
    raise ScenarioError(
        f"The output {output!r} has no target of the same name (targets: {', '.join(targets) or 'none'}). "
        "Name the targets like the outputs, or define loss_values()."
    )
