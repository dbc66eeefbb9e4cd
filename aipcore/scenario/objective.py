"""Loss and metrics of a scenario, paired with its outputs, as functions of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from aipcore.errors import ScenarioError
from aipcore.scenario.scenario import Scenario

Tensors = Mapping[str, Any]


class Objective:
    """The loss of a scenario: per-sample values by name, each of shape [batch].

    A Keras loss gives one value per sample: the mean over the sample's other axes, weighted by the mask that Keras
    attached to the output, if any.
    """

    def __init__(self, scenario: Scenario, outputs: list[str], targets: list[str]) -> None:
        self._scenario = scenario
        self._custom = type(scenario).loss_values is not Scenario.loss_values
        self._pairs: dict[str, tuple[Any, str]] = {}
        if not self._custom:
            for output, loss in by_output(scenario.losses(), outputs, f"{type(scenario).__name__}.losses()").items():
                if not isinstance(loss, keras.losses.Loss):
                    loss = keras.losses.get(loss)  # noqa: PLW2901 - a name or a function becomes what Keras makes of it
                self._pairs[output] = (loss, target_of(output, targets))

    @property
    def pairs(self) -> dict[str, tuple[Any, str]]:
        """By output: its loss, and the target that it is compared with; empty for a scenario's own loss values."""
        return dict(self._pairs)

    def __call__(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> dict[str, Any]:
        """The loss values by name, each of shape [batch] in float32."""
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
    mask = keras.src.backend.get_keras_mask(output)
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


class MetricSet:
    """Running means of the losses and the scenario's metrics, over one epoch or one validation."""

    def __init__(self, scenario: Scenario, outputs: list[str], targets: list[str], losses: list[str]) -> None:
        self.total = keras.metrics.Mean(name="loss")
        self.losses = {name: keras.metrics.Mean(name=f"{name}_loss") for name in losses} if len(losses) > 1 else {}
        self.metrics: dict[str, tuple[Any, str, str]] = {}
        given = by_output(scenario.metrics(), outputs, f"{type(scenario).__name__}.metrics()", several=True)
        for output, metrics in given.items():
            for metric in metrics if isinstance(metrics, list | tuple) else [metrics]:
                metric = keras.metrics.get(metric)  # noqa: PLW2901 - a name becomes what Keras makes of it
                name = metric.name if len(outputs) == 1 else f"{output}_{metric.name}"
                if name in self.metrics or name == "loss":
                    raise ScenarioError(f"Two metrics of {type(scenario).__name__} are called {name!r}: name one anew.")
                self.metrics[name] = (metric, output, target_of(output, targets))

    def update(self, targets: Tensors, outputs: Tensors, losses: Tensors, penalty: Any) -> None:
        """Takes in one batch: loss values of shape [batch] by name, and the model's own regularisation penalty."""
        total = tf.add_n(list(losses.values())) + penalty
        self.total.update_state(total)
        for name, mean in self.losses.items():
            mean.update_state(losses[name])
        for metric, output, target in self.metrics.values():
            metric.update_state(targets[target], outputs[output])

    @property
    def all(self) -> dict[str, Any]:
        """Every metric by the name it is logged under."""
        return {
            "loss": self.total,
            **{f"{name}_loss": mean for name, mean in self.losses.items()},
            **{name: metric for name, (metric, _, _) in self.metrics.items()},
        }

    @property
    def variables(self) -> list[Any]:
        """The state of all metrics."""
        return [variable for metric in self.all.values() for variable in metric.variables]

    def reset(self) -> None:
        """Starts anew."""
        for metric in self.all.values():
            metric.reset_state()

    def result(self) -> dict[str, float]:
        """The values so far; a metric that returns several has each under its own name."""
        values: dict[str, float] = {}
        for name, metric in self.all.items():
            result = metric.result()
            if isinstance(result, Mapping):
                values.update({str(key): float(value) for key, value in result.items()})
            else:
                values[name] = float(result)
        return values


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
