"""The updates of a step: by an optimizer, from the gradients of a loss, or of a target network."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import tensorflow as tf

from aipcore.distributed.shards import WeightShards
from aipcore.distributed.strategy import Distribution, ReplicaVariables
from aipcore.errors import ScenarioError
from aipcore.hooks.records import OptimizerParams
from aipcore.scenario.losses import ONE, SAMPLES, Tensors
from aipcore.scenario.metrics import LossMean, LossSums
from aipcore.scenario.replica_metrics import ReplicaMetrics
from aipcore.scenario.sample_random import Part
from aipcore.training.engine.clipping import clip, clips
from aipcore.training.engine.ema import WeightAverage
from aipcore.training.engine.forward import Forward
from aipcore.training.engine.loss_scaling import LossScale
from aipcore.training.engine.sparse import sum_rows_before_writing

logger = logging.getLogger("aipcore.training")


@attrs.frozen
class Batch:
    """The position of a batch, as symbolic values that all replicas share.

    Attributes:
        step: its index in the block, an int32 scalar.
        parts: number of this worker's replicas with samples of their own, an int32 scalar.
        size: number of its samples, an int32 scalar.
    """

    step: Any
    parts: Any
    size: Any


class OptimizerUpdate:
    """An optimizer update: a loss, the weights that it trains, and their optimizer.

    A loss is a sum and a denominator, see the module `train_step`.

    Args:
        optimizer: the optimizer, built for the weights.
        forward: computes the loss.
        weights: the Keras variables to train.
        metrics: the training metrics, with the running losses.
        distribution: the devices that share each batch.
        clipping: the limits of gradients.
        grouped: True if gradients are summed over several batches.
        name: the name of the update; empty for the only one.
        times: number of updates for each batch.
        average: the EMA of the weights, or None.
        loss_scale: the scale of the loss, or None.
    """

    def __init__(
        self,
        optimizer: Any,
        forward: Forward,
        weights: Sequence[Any],
        metrics: ReplicaMetrics,
        *,
        distribution: Distribution,
        clipping: OptimizerParams,
        grouped: bool,
        name: str = "",
        times: int = 1,
        average: WeightAverage | None = None,
        loss_scale: LossScale | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.forward = forward
        self.weights = list(weights)
        self.name = name
        self.times = times
        self.average = average
        self.loss_scale = loss_scale
        self.sums_in_slices = False
        self._metrics = metrics
        self._distribution = distribution
        self._clipping = clipping
        self._grouped = grouped
        self._values = [weight.value for weight in self.weights]
        self._shards = WeightShards(self.weights, distribution)
        # As in Keras, which squares the rows of an embedding's gradient before it adds rows of the same index.
        self._by_rows = not grouped and distribution.replicas == 1 and not clips(clipping)
        if self._by_rows:
            sum_rows_before_writing(optimizer)
        running = metrics.losses(0, name)
        self._groups = _groups(running.kinds, penalty=running.penalty) if grouped else []
        self._group_gradients = [
            [self._zeros(replica, group) for group in range(len(self._groups))]
            for replica in range(len(distribution.devices))
        ]
        self._reached: list[int] = []
        self._told: set[str] = set()

    def _zeros(self, replica: int, group: int) -> list[Any]:
        """Create the sums of a replica's gradients over the batches of a group; plain variables, see `Distribution`."""
        prefix = f"{self.name}/" if self.name else ""
        with self._distribution.on_replica(replica):
            return [
                tf.Variable(
                    tf.zeros(value.shape, value.dtype),
                    trainable=False,
                    name=f"group_gradient/{prefix}{group}/{weight.path}",
                )
                for weight, value in zip(self.weights, self._values, strict=True)
            ]

    @property
    def rate_name(self) -> str:
        """The name of the learning rate in logs."""
        return f"{self.name}_lr" if self.name else "learning_rate"

    @property
    def variables(self) -> list[Any]:
        """The update's own state, in addition to that of the model, the optimizer and the metrics."""
        scale = [] if self.loss_scale is None else self.loss_scale.variables
        batches = [] if self.forward.batches is None else [self.forward.batches]
        flat = [[total for totals in groups for total in totals] for groups in self._group_gradients]
        return [*(ReplicaVariables(list(parts)) for parts in zip(*flat, strict=True)), *scale, *batches]

    def gradients(self, read: Callable[[Any, Any], list[Tensors]], columns: Any, batch: Batch) -> Any:
        """Return the gradients of a batch on each replica; empty lists if they are added to those of a group.

        Args:
            read: returns the inputs, targets and weights of a step from the columns of a block.
            columns: the columns of the block, per replica.
            batch: the position of the batch.
        """

        def run(replica: int, columns: Any, step: Any, parts: Any, size: Any) -> list[Any]:
            return self._replica_gradients(replica, read(columns, step), parts, size)

        found = self._distribution.run(run, columns, batch.step, batch.parts, batch.size)
        if self.forward.batches is not None:
            self.forward.batches.assign_add(1)
        return found

    def _replica_gradients(self, replica: int, sides: list[Tensors], parts: Any, size: Any) -> list[Any]:
        inputs, targets, weights = sides
        count = tf.shape(next(iter(inputs.values())))[0]
        samples = tf.cast(count, tf.float32)
        part = Part.of(self._distribution, replica, count, size)
        counts = replica < parts
        running = self._metrics.losses(replica, self.name)
        trained = [value for weight, value in zip(self.weights, self._values, strict=True) if weight.trainable]
        with tf.GradientTape(watch_accessed_variables=False, persistent=len(self._groups) > 1) as tape:
            tape.watch(trained)
            outputs, weights, sums = self.forward(running, inputs, targets, weights, samples, part)
            if self._distribution.replicas > 1:
                samples *= tf.cast(counts, tf.float32)
                sums = sums.scaled(tf.cast(counts, tf.float32))
            if self._grouped:
                losses = [self._part_of_loss(group, running, sums, samples) for group in self._groups]
            else:
                added = sums.over_replicas(self._distribution)
                scales = running.scales(added)
                losses = [running.total(running.means(sums, scales))]
            if self.loss_scale is not None:
                losses = [self.loss_scale.scaled(loss) for loss in losses]
        gradients = self._gradients(tape, losses)
        del tape
        if outputs is not None:
            self._metrics.update(replica, counts, targets, outputs, weights)
        if not self._grouped:
            running.add_batch(running.means(added, scales), samples)
            return [gradients[0][place] for place in self._reached]
        running.add_to_group(sums, samples)
        for totals, each in zip(self._group_gradients[replica], gradients, strict=True):
            for total, gradient in zip(totals, each, strict=True):
                if gradient is not None:
                    total.assign_add(gradient)
        return []

    def _part_of_loss(self, group: _Group, running: LossMean, sums: LossSums, samples: Any) -> Any:
        """Return a batch's contribution to one group of losses, before the division when the update is due."""
        values = sums.sums
        if group.denominator is None:
            values = [each * samples for each in running.means(sums, running.scales(sums))]
        return tf.add_n([values[place] * running.factors[place] for place in group.losses])

    def _gradients(self, tape: tf.GradientTape, losses: Sequence[Any]) -> list[list[Any]]:
        """Return the gradients of each loss, None for weights without influence on it; record the weights reached."""
        found = [tape.gradient(loss, self._values) for loss in losses]
        if not self._by_rows:
            found = [[None if g is None else tf.convert_to_tensor(g) for g in gradients] for gradients in found]
        if self.loss_scale is not None:
            found = [self.loss_scale.unscaled(gradients) for gradients in found]
        self._reached = [
            place for place, each in enumerate(zip(*found, strict=True)) if any(g is not None for g in each)
        ]
        # In some phase of the run, all weights of an update may be frozen.
        trained = [place for place, weight in enumerate(self.weights) if weight.trainable]
        if trained and not self._reached:
            raise ScenarioError(
                f"The loss of the update {self.name} has no gradient with respect to any weight that it trains. Check "
                "what it computes."
                if self.name
                else "No loss has a gradient with respect to any weight. Check what the losses compute."
            )
        left = [self.weights[place].path for place in trained if place not in self._reached]
        if not self._told.issuperset(left):
            self._told.update(left)
            more = f" and {len(left) - 3} more" if len(left) > 3 else ""
            what = f"The loss of the update {self.name} does not depend" if self.name else "No loss depends"
            logger.warning("%s on %s%s. They keep their values.", what, ", ".join(left[:3]), more)
        return found

    def apply_group(self) -> None:
        """Perform the update with the gradients of a completed group of batches, equal to those of one large batch."""
        self.apply(self._distribution.run(self._gradients_of_group))

    def _gradients_of_group(self, replica: int) -> list[Any]:
        running = self._metrics.losses(replica, self.name)
        state = tf.concat([running.group_sums.value, running.group_samples.value[None]], axis=0)
        state = self._distribution.sum([state])[0]
        added = LossSums.unstacked(state[:-1], running.count)
        scales = running.scales(added)
        running.close_group(running.means(added, scales))
        of_group = [
            tf.math.reciprocal_no_nan(state[-1]) if group.denominator is None else scales[group.denominator]
            for group in self._groups
        ]
        gradients = []
        for place, totals in enumerate(zip(*self._group_gradients[replica], strict=True)):
            if place not in self._reached:
                continue
            parts = [total.value() * tf.cast(scale, total.dtype) for scale, total in zip(of_group, totals, strict=True)]
            gradients.append(tf.add_n(parts))
            for total in totals:
                total.assign(tf.zeros_like(total))
        return gradients

    def apply(self, gradients: Any) -> None:
        """Perform the update.

        Args:
            gradients: those of each replica for the weights that the loss depends on.
        """
        if not self._reached:
            return
        run = self._distribution.run
        if self._distribution.replicas > 1:
            gradients = run(lambda _, values: self._distribution.sum(values), gradients)
        if self.loss_scale is None:
            self._apply(gradients)
        else:
            # The sum is identical on every replica, so any of them can be checked.
            finite = self._distribution.local(run(lambda _, values: _all_finite(values), gradients))
            self.loss_scale.guarded(finite[0], lambda: self._apply(gradients))

    def _apply(self, gradients: Any) -> None:
        self._distribution.run(self._apply_on_replica, gradients)
        self._shards.spread()
        if self.average is not None:
            self.average.update()

    def _apply_on_replica(self, replica: int, gradients: list[Any]) -> None:
        del replica
        # As in Keras, weight decay does not apply to weights that no loss depends on.
        reached = [self.weights[place] for place in self._reached]
        clipped = clip(gradients, self._clipping, sliced=self.sums_in_slices)
        own = self._shards.own(reached)
        clipped, weights = [clipped[place] for place in own], [reached[place] for place in own]
        if self._distribution.strategy is not None:
            self.optimizer.apply(clipped, weights)
            return
        # Outside of a replica, Keras adds no sum over replicas. The sum uses `tf.custom_gradient`, whose registry keeps
        # the graph of each trace until the process ends.
        tf.distribute.get_replica_context().merge_call(lambda _: self.optimizer.apply(clipped, weights))


class TargetUpdate:
    """The update of a target network: target += (1 - rate) * (source - target).

    Args:
        pairs: each variable that follows, and the one that it follows.
        rate: from 0 (a copy) to below 1.
        name: the name of the update.
    """

    def __init__(self, pairs: Sequence[tuple[Any, Any]], rate: float, name: str) -> None:
        self.pairs = list(pairs)
        self.rate = rate
        self.name = name

    def apply(self) -> None:
        """Perform the update; runs inside the compiled step."""
        for target, source in self.pairs:
            target.assign(target.value + (source.value - target.value) * (1 - self.rate))


AnyStepUpdate = OptimizerUpdate | TargetUpdate


def _all_finite(gradients: list[Any]) -> Any:
    dense = [g.values if isinstance(g, tf.IndexedSlices) else g for g in gradients]
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in dense])


@attrs.frozen(kw_only=True)
class _Group:
    """Losses whose gradients can be summed over batches, since they share one denominator.

    Attributes:
        losses: their indices among the losses; the penalty has the index after the last loss.
        denominator: the index of the denominator; None for the number of samples.
    """

    losses: tuple[int, ...]
    denominator: int | None = None


def _groups(kinds: Sequence[str], *, penalty: bool) -> list[_Group]:
    """Return the groups of losses for these kinds of denominators; see `LossTerm`."""
    last = len(kinds)
    by_samples = [place for place, kind in enumerate(kinds) if kind == SAMPLES]
    by_samples += [last] if penalty else []
    undivided = tuple(place for place, kind in enumerate(kinds) if kind == ONE)
    groups = [_Group(losses=tuple(by_samples))] if by_samples else []
    groups += [_Group(losses=undivided, denominator=undivided[0])] if undivided else []
    rest = [place for place in range(last) if place not in (*by_samples, *undivided)]
    return groups + [_Group(losses=(place,), denominator=place) for place in rest]
