"""Losses and metrics of a pass over several replicas, combined at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from aipcore.distributed.strategy import Distribution, ReplicaVariables, merge
from aipcore.errors import ScenarioError
from aipcore.scenario.losses import LossTerm, Tensors
from aipcore.scenario.metrics import LossMean, MetricSet, UpdateLosses


class ReplicaMetrics:
    """A `MetricSet` per replica, with combined results.

    The state of a Keras metric adds up over replicas unless its variables specify another aggregation. The sum is then
    the state of a metric over all data.

    Args:
        make: returns a new set.
        distribution: the replicas.
    """

    def __init__(self, make: Callable[[], MetricSet], distribution: Distribution) -> None:
        self._distribution = distribution
        self.sets: list[MetricSet] = []
        for replica in range(len(distribution.devices)):
            with distribution.on_replica(replica):
                self.sets.append(make())
        self._merged = self.sets[0]
        if distribution.replicas > 1:
            self._merged = make()
            require_sums(make)

    @property
    def names(self) -> list[str]:
        """The log names of the values."""
        return list(self._merged.names)

    @property
    def variables(self) -> list[Any]:
        """The state variables of all sets."""
        return [ReplicaVariables(list(parts)) for parts in zip(*(each.variables for each in self.sets), strict=True)]

    def update(self, replica: int, counts: Any, targets: Tensors, outputs: Tensors, weights: Tensors) -> None:
        """Update with one batch, or a replica's part of it, if it `counts`; see `MetricSet.update`."""
        metrics = self.sets[replica]
        if self._distribution.replicas == 1:
            metrics.update(targets, outputs, weights)
        elif metrics.metrics:
            tf.cond(counts, lambda: metrics.update(targets, outputs, weights), lambda: None)

    def losses(self, replica: int, update: str = "") -> LossMean:
        """Return the running losses of a replica, or those of one update by its name."""
        losses = self.sets[replica].losses
        if isinstance(losses, UpdateLosses):
            return losses.parts[update]
        assert losses is not None
        return losses

    def with_losses(self, replica: int, terms: Mapping[str, LossTerm]) -> list[tuple[LossMean, Mapping[str, LossTerm]]]:
        """Return the running losses of a replica with the losses of a batch that belong to each."""
        if isinstance(self.sets[replica].losses, UpdateLosses):
            return [(self.losses(replica, name), {name: term}) for name, term in terms.items()]
        return [(self.losses(replica), terms)]

    def reset(self) -> None:
        """Reset all state."""
        for each in self.sets:
            each.reset()

    def result(self) -> dict[str, float]:
        """Return the current values over all replicas of all processes. All processes must call it."""
        if self._distribution.replicas > 1:
            values = [[variable.numpy() for variable in each.variables] for each in self.sets]
            for merged, *parts in zip(self._merged.variables, *self._distribution.gather(values), strict=True):
                merged.assign(merge(merged.aggregation, parts))
        return self._merged.result()


def require_sums(make: Callable[[], MetricSet]) -> None:
    """Compare the combined metrics of two halves of a batch with those of the whole batch.

    Raises:
        ScenarioError: they differ, so the metric cannot be computed on several devices.
    """
    whole, *halves = make(), make(), make()
    samples = len(next(iter(whole.example[1].values())))
    bounds = (slice(samples), slice(samples // 2), slice(samples // 2, samples))
    if samples < 2:
        return
    for metrics, part in zip((whole, *halves), bounds, strict=True):
        metrics.update(*({name: column[part] for name, column in side.items()} for side in whole.example))
    for first, second in zip(*(half.variables for half in halves), strict=True):
        first.assign(merge(first.aggregation, [first.numpy(), second.numpy()]))
    expected, found = whole.result(), halves[0].result()
    for name in whole.by_name:
        for key in (key for key in expected if key == name or key.startswith(f"{name}_")):
            if not np.isclose(found[key], expected[key], rtol=1e-3, atol=1e-6, equal_nan=True):
                raise ScenarioError(
                    f"The metric {name} is {found[key]:.4g} for the sum of two half batches and {expected[key]:.4g} "
                    "for the whole batch. Its state cannot be summed over devices. Use one device, or an evaluator."
                )
