"""The running values of a pass over data: losses and metrics, collected by each replica and put together at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from aipcore.devices.distribution import Distribution, ReplicaVariables
from aipcore.errors import ScenarioError
from aipcore.scenario.keras_names import get_metric
from aipcore.scenario.objective import Tensors, by_output, target_of
from aipcore.scenario.scenario import Scenario


class MetricSet:
    """Running means of the losses and the scenario's metrics, over one epoch or one validation.

    Args:
        scenario: says what the metrics are.
        outputs: of the model that is trained.
        targets: of the data.
        losses: the names of the losses; without any there is no total either.
        given: the outputs that there are, if another model is applied; metrics of others are left out.
    """

    def __init__(
        self,
        scenario: Scenario,
        outputs: list[str],
        targets: list[str],
        losses: list[str],
        *,
        given: Sequence[str] | None = None,
    ) -> None:
        self.total: Any = keras.metrics.Mean(name="loss") if losses else None
        self.losses = {name: keras.metrics.Mean(name=f"{name}_loss") for name in losses} if len(losses) > 1 else {}
        self.metrics: dict[str, tuple[Any, str, str]] = {}
        by_name = by_output(scenario.metrics(), outputs, f"{type(scenario).__name__}.metrics()", several=True)
        for output, metrics in by_name.items():
            if given is not None and output not in given:
                continue
            for metric in metrics if isinstance(metrics, list | tuple) else [metrics]:
                metric = get_metric(metric, f"{type(scenario).__name__}.metrics()")  # noqa: PLW2901 - a name becomes what Keras makes of it
                name = metric.name if len(outputs) == 1 else f"{output}_{metric.name}"
                if name in self.metrics or name == "loss":
                    raise ScenarioError(f"Two metrics of {type(scenario).__name__} are called {name!r}: name one anew.")
                self.metrics[name] = (metric, output, target_of(output, targets))

    def update(self, targets: Tensors, outputs: Tensors, losses: Tensors, penalty: Any) -> None:
        """Takes in one batch: loss values of shape [batch] by name, and the model's own regularisation penalty."""
        if self.total is not None:
            self.total.update_state(tf.add_n(list(losses.values())) + penalty)
        for name, mean in self.losses.items():
            mean.update_state(losses[name])
        for metric, output, target in self.metrics.values():
            metric.update_state(targets[target], outputs[output])

    @property
    def all(self) -> dict[str, Any]:
        """Every metric by the name it is logged under."""
        return {
            **({} if self.total is None else {"loss": self.total}),
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


class ReplicaMetrics:
    """A `MetricSet` for each replica, and what they come to together.

    The state of a Keras metric adds up over replicas unless its variables say otherwise, so that their sum is the state
    of a metric that saw everything.

    Args:
        make: makes a new set.
        distribution: the replicas.
    """

    def __init__(self, make: Callable[[], MetricSet], distribution: Distribution) -> None:
        self._distribution = distribution
        self.sets: list[MetricSet] = []
        for replica in range(len(distribution.devices)):
            with distribution.on_replica(replica):
                self.sets.append(make())
        self._merged = make() if distribution.replicas > 1 else self.sets[0]

    @property
    def names(self) -> list[str]:
        """The names that values are logged under."""
        return list(self._merged.all)

    @property
    def variables(self) -> list[Any]:
        """The state of all sets."""
        return [ReplicaVariables(list(parts)) for parts in zip(*(each.variables for each in self.sets), strict=True)]

    def update(self, replica: int, targets: Tensors, outputs: Tensors, losses: Tensors, penalty: Any) -> None:
        """Takes in one batch, or a replica's part of it; see `MetricSet.update`."""
        self.sets[replica].update(targets, outputs, losses, penalty)

    def reset(self) -> None:
        """Starts anew."""
        for each in self.sets:
            each.reset()

    def result(self) -> dict[str, float]:
        """The values so far, over all replicas of all workers, which must all ask for them."""
        if self._distribution.replicas > 1:
            values = [[variable.numpy() for variable in each.variables] for each in self.sets]
            for merged, *parts in zip(self._merged.variables, *self._distribution.gather(values), strict=True):
                merged.assign(_merge(merged.aggregation, parts))
        return self._merged.result()


def _merge(aggregation: str, parts: list[Any]) -> Any:
    if aggregation == "sum":
        return sum(parts)
    if aggregation == "mean":
        return sum(parts) / len(parts)
    return parts[0]
