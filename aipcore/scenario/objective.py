"""Loss and metrics of a scenario, paired with its outputs, as functions of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from aipcore.errors import ScenarioError
from aipcore.scenario.keras_names import get_loss
from aipcore.scenario.scenario import Scenario

Tensors = Mapping[str, Any]


class Objective:
    """The loss of a scenario: per-sample values by name, each of shape [batch].

    A Keras loss gives one value per sample: the mean over the sample's other axes, weighted by the mask that Keras
    attached to the output, if any.

    Args:
        scenario: says what the losses are.
        outputs: of the model that is trained.
        targets: of the data.
        given: the outputs that there are, if another model is applied; losses that need others are left out.
    """

    def __init__(
        self, scenario: Scenario, outputs: list[str], targets: list[str], *, given: Sequence[str] | None = None
    ) -> None:
        self._scenario = scenario
        self._custom = type(scenario).loss_values is not Scenario.loss_values
        self._computable = given is None or set(outputs) <= set(given)
        self._pairs: dict[str, tuple[Any, str]] = {}
        if not self._custom:
            for output, loss in by_output(scenario.losses(), outputs, f"{type(scenario).__name__}.losses()").items():
                if not isinstance(loss, keras.losses.Loss):
                    loss = get_loss(loss, f"{type(scenario).__name__}.losses()")  # noqa: PLW2901 - a name or a function becomes what Keras makes of it
                if given is None or output in given:
                    self._pairs[output] = (loss, target_of(output, targets))

    @property
    def pairs(self) -> dict[str, tuple[Any, str]]:
        """By output: its loss, and the target that it is compared with; empty for a scenario's own loss values."""
        return dict(self._pairs)

    def computable(self, losses: Sequence[str]) -> list[str]:
        """Those of the losses of the trained model that can be computed here."""
        if self._custom:
            return list(losses) if self._computable else []
        return [name for name in losses if name in self._pairs]

    def __call__(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> dict[str, Any]:
        """The loss values by name, each of shape [batch] in float32."""
        if self._custom and not self._computable:
            return {}
        if self._custom:
            values = self._scenario.loss_values(inputs, targets, outputs)
            if not values:
                raise ScenarioError(f"{type(self._scenario).__name__}.loss_values() returned no loss.")
            return {name: tf.cast(value, tf.float32) for name, value in values.items()}
        return {
            output: _per_sample(loss, targets[target], outputs[output])
            for output, (loss, target) in self._pairs.items()
        }


def _per_sample(loss: Any, target: Any, output: Any) -> Any:
    function = loss.call if isinstance(loss, keras.losses.Loss) else loss
    mask = mask_of(output)
    if output.dtype in (tf.float16, tf.bfloat16):
        # Exponentials and sums of a loss need more digits than activations do.
        output = tf.cast(output, tf.float32)
    target = keras.ops.convert_to_tensor(target)
    if target.dtype != output.dtype and keras.backend.is_float_dtype(keras.backend.standardize_dtype(target.dtype)):
        target = tf.cast(target, output.dtype)
    values = tf.cast(function(target, output), tf.float32)
    axes = list(range(1, values.shape.rank))
    if mask is not None and values.shape.rank > 1:
        weights = tf.cast(tf.broadcast_to(mask, tf.shape(values)), tf.float32)
        return tf.math.divide_no_nan(tf.reduce_sum(values * weights, axes), tf.reduce_sum(weights, axes))
    return tf.reduce_mean(values, axes) if axes else values


def mask_of(output: Any) -> Any:
    """The mask that Keras attached to an output, of shape [batch, ...], or None."""
    return keras.src.backend.get_keras_mask(output)


def set_mask(output: Any, mask: Any) -> None:
    """Attaches a mask to an output, as Keras does."""
    keras.src.backend.set_keras_mask(output, mask)


def by_output(given: Any, outputs: list[str], what: str, *, several: bool = False) -> dict[str, Any]:
    """Pairs what a scenario gave (one thing, or a mapping by output name) with its outputs."""
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in outputs]
        if unknown:
            known = ", ".join(repr(name) for name in outputs if name) or "one output without a name"
            raise ScenarioError(f"{what} names the output {unknown[0]!r}, but the model has {known}.")
        return dict(given)
    if several and not given:
        return {}
    if len(outputs) == 1:
        return {outputs[0]: given}
    raise ScenarioError(
        f"{what} must be a mapping by output name, since the model has several outputs: {', '.join(outputs)}."
    )


def target_of(output: str, targets: list[str]) -> str:
    """The name of the target that an output is compared with: the one of the same name, or the only one."""
    if output in targets:
        return output
    if len(targets) == 1:
        return targets[0]
    raise ScenarioError(
        f"The output {output!r} has no target of its name (there are: {', '.join(targets) or 'none'}): "
        "name targets as the outputs, or define loss_values()."
    )
