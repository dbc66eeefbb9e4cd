"""The compiled training loop: a block of batches is copied to the devices, which run all its steps in one call.

One step is forward, backward, clipping, optimizer update and metric update. A loss is a sum and a denominator. Both are
additive over replicas, each of which computes the gradients of its part of the batch. They are also additive over the
batches of an accumulation group, whose gradients are divided once, before the update that follows the last batch. The
same step is compiled in both ways: as a plain TensorFlow graph and with XLA.

A block contains its samples, or only their indices if the samples are already on the device (`resident`).
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from typing import Any

import attrs
import numpy as np
import tensorflow as tf

from aipcore.data.dataset import Columns
from aipcore.data.device_cache import NUMBERS
from aipcore.data.loader import Block
from aipcore.data.sample import Specs
from aipcore.distributed.strategy import Distribution, ReplicaVariables
from aipcore.errors import ScenarioError
from aipcore.hooks.records import OptimizerParams
from aipcore.scenario.losses import ONE, SAMPLES, Objective, Tensors
from aipcore.scenario.metrics import LossMean, LossSums
from aipcore.scenario.model import Graph, block_signature
from aipcore.scenario.replica_metrics import ReplicaMetrics
from aipcore.training.engine.clipping import clip, clips
from aipcore.training.engine.ema import WeightAverage
from aipcore.training.engine.loss_scaling import LossScale
from aipcore.training.engine.sparse import sum_rows_before_writing

logger = logging.getLogger("aipcore.training")

DeviceBlock = tuple[Any, ...]


@attrs.frozen
class Batch:
    """The position of a batch, as symbolic values that all replicas share.

    Attributes:
        step: its index in the block, an int32 scalar.
        parts: number of this worker's replicas with samples of their own, an int32 scalar.
    """

    step: Any
    parts: Any


class TrainingLoop:
    """The training loop over the batches of a block.

    Attributes:
        compiled: the mode of full blocks: "graph", "xla" or "eager". With "xla", batches of another shape (the partial
            last batch of an epoch, samples of varying size) run as "graph", so that each shape does not cost an XLA
            compilation.
    """

    def __init__(
        self,
        graph: Graph,
        optimizer: Any,
        objective: Objective,
        metrics: ReplicaMetrics,
        specs: Specs,
        *,
        distribution: Distribution,
        clipping: OptimizerParams,
        accumulate_steps: int,
        input_gradient_penalty: float = 0.0,
        resident: Sequence[Columns] | None = None,
        average: WeightAverage | None = None,
        loss_scale: LossScale | None = None,
    ) -> None:
        self.graph = graph
        self.optimizer = optimizer
        self.objective = objective
        self.metrics = metrics
        self.distribution = distribution
        self.clipping = clipping
        self.accumulate_steps = accumulate_steps
        self.input_gradient_penalty = input_gradient_penalty
        self.average = average
        self.loss_scale = loss_scale
        self.compiled = "graph"
        self._weights = graph.model.trainable_variables
        self._values = [weight.value for weight in self._weights]
        running = metrics.losses(0)
        # As in Keras, which squares the rows of an embedding's gradient before it adds rows of the same index.
        self._by_rows = accumulate_steps == 1 and distribution.replicas == 1 and not clips(clipping)
        if self._by_rows:
            sum_rows_before_writing(optimizer)
        self._groups = [] if accumulate_steps == 1 else _groups(running.kinds, penalty=running.penalty)
        self.group_gradients = [
            [self._zeros(replica, group) for group in range(len(self._groups))]
            for replica in range(len(distribution.devices))
        ]
        self._resident: list[Tensors] | None = None
        if resident is not None:
            self._resident = [{name: tf.constant(column) for name, column in side.items()} for side in resident]
        sides = tuple(block_signature(side, axes=2) for side in specs)
        signature = [
            (sides,) * len(distribution.devices),
            tf.TensorSpec((None,), tf.bool),
            tf.TensorSpec((), tf.int32),
            tf.TensorSpec((), tf.int32),
        ]
        self._signature = signature
        self._sums_in_slices = False
        self._reached: list[int] = []
        self._told: set[str] = set()
        self._phases: dict[Hashable, tuple[Any, Any, Any]] = {}
        self.switch(None)

    def switch(self, phase: Hashable) -> None:
        """Train with the current `trainable` flags of layers and weights, which are those of a phase.

        The step is traced again for a new phase. The traces of earlier phases are kept.
        """
        if phase not in self._phases:
            plain, single = (
                tf.function(function, autograph=False, input_signature=self._signature)
                for function in (self._run, self._run_single)
            )
            self._phases[phase] = plain, tf.function(self._run_under_xla, autograph=False, jit_compile=True), single
        self._plain, self._xla, self._single = self._phases[phase]

    def _zeros(self, replica: int, group: int) -> list[Any]:
        """Create the sums of a replica's gradients over the batches of a group; plain variables, see `Distribution`."""
        with self.distribution.on_replica(replica):
            return [
                tf.Variable(
                    tf.zeros(value.shape, value.dtype), trainable=False, name=f"group_gradient/{group}/{weight.path}"
                )
                for weight, value in zip(self._weights, self._values, strict=True)
            ]

    @property
    def variables(self) -> list[Any]:
        """The loop's own state, in addition to that of the model, the optimizer and the metrics."""
        scale = [] if self.loss_scale is None else self.loss_scale.variables
        flat = [[total for totals in groups for total in totals] for groups in self.group_gradients]
        return [*(ReplicaVariables(list(parts)) for parts in zip(*flat, strict=True)), *scale]

    def prepare(self, block: Block, updates: list[bool]) -> DeviceBlock:
        """Copy a block to the devices.

        Args:
            block: the batches.
            updates: for each batch, True if an optimizer update follows it.
        """
        room = len(next(iter(block.inputs.values())))
        flags = np.zeros(room, bool)
        flags[: block.steps] = updates
        sides = (self.distribution.split(side, axis=1) for side in (block.inputs, block.targets, block.weights))
        return (
            tuple(zip(*sides, strict=True)),
            tf.constant(flags),
            tf.constant(block.steps, tf.int32),
            tf.constant(self.distribution.parts(block.batch_size), tf.int32),
        )

    def run(self, block: DeviceBlock, *, full: bool, single: bool = False) -> None:
        """Run the steps of a block.

        Args:
            block: the result of `prepare`.
            full: True if the block has the one shape that XLA is compiled for.
            single: if True, run its one step without a loop around it, because a profile counts the iterations of any
                loop as training steps.
        """
        if self.compiled == "eager":
            self._run(*block)
        elif self.compiled == "xla" and full:
            self._xla(*block)
        elif single:
            self._single(*block)
        else:
            self._plain(*block)

    def wait(self) -> None:
        """Wait until all steps so far are done."""
        for each in (self.metrics.losses(replica) for replica in range(len(self.metrics.sets))):
            each.samples.numpy()

    @property
    def traces(self) -> int:
        """The number of times that the loop has been traced."""
        each = (function for plain, xla, _ in self._phases.values() for function in (plain, xla))
        return sum(int(function.experimental_get_tracing_count()) for function in each)

    def _run_under_xla(self, *block: Any) -> None:
        # Set while the loop is traced.
        self._sums_in_slices = not tf.config.list_logical_devices("GPU")
        try:
            self._run(*block)
        finally:
            self._sums_in_slices = False

    def _run(self, columns: Any, updates: Any, steps: Any, parts: Any) -> None:
        own = self.distribution.per_replica(columns)

        def body(step: Any) -> Any:
            self._step(own, Batch(step, parts), updates[step])
            return [step + 1]

        tf.while_loop(lambda step: step < steps, body, [tf.constant(0)], parallel_iterations=1)

    def _run_single(self, columns: Any, updates: Any, steps: Any, parts: Any) -> None:
        del steps
        self._step(self.distribution.per_replica(columns), Batch(tf.constant(0), parts), updates[0])

    def _step(self, columns: Any, batch: Batch, update: Any) -> None:
        gradients = self.distribution.run(self._replica_gradients, columns, batch.step, batch.parts)
        if self.accumulate_steps == 1:
            self._update(gradients)
        else:
            tf.cond(update, self._update_from_group, lambda: None)

    def _replica_gradients(self, replica: int, columns: Any, step: Any, parts: Any) -> list[Any]:
        """Return the gradients of a replica's part of a batch; an empty list if they are accumulated."""
        inputs, targets, weights = self._samples(columns, step)
        samples = tf.cast(tf.shape(next(iter(inputs.values())))[0], tf.float32)
        counts = replica < parts
        running = self.metrics.losses(replica)
        with tf.GradientTape(watch_accessed_variables=False, persistent=len(self._groups) > 1) as tape:
            tape.watch([value for w, value in zip(self._weights, self._values, strict=True) if w.trainable])
            outputs, weights, sums = self.forward(running, inputs, targets, weights, samples)
            if self.distribution.replicas > 1:
                samples *= tf.cast(counts, tf.float32)
                sums = sums.scaled(tf.cast(counts, tf.float32))
            if self.accumulate_steps == 1:
                added = sums.over_replicas(self.distribution)
                scales = running.scales(added)
                losses = [running.total(running.means(sums, scales))]
            else:
                losses = [self._part_of_loss(group, running, sums, samples) for group in self._groups]
            if self.loss_scale is not None:
                losses = [self.loss_scale.scaled(loss) for loss in losses]
        gradients = self._gradients(tape, losses)
        del tape
        self.metrics.update(replica, counts, targets, outputs, weights)
        if self.accumulate_steps == 1:
            running.add_batch(running.means(added, scales), samples)
            return [gradients[0][place] for place in self._reached]
        running.add_to_group(sums, samples)
        for totals, each in zip(self.group_gradients[replica], gradients, strict=True):
            for total, gradient in zip(totals, each, strict=True):
                if gradient is not None:
                    total.assign_add(gradient)
        return []

    def forward(
        self,
        running: LossMean,
        inputs: Tensors,
        targets: Tensors,
        weights: Tensors,
        samples: Any,
        *,
        training: bool = True,
    ) -> tuple[Tensors, Tensors, Any]:
        """Return the model's outputs, the weights of the samples, and the sums and denominators of the losses."""
        weights = self.objective.sample_weights(targets, weights)

        def run() -> tuple[Tensors, Any]:
            outputs = self.graph(inputs, training=training)
            terms = self.objective(inputs, targets, outputs, weights, samples)
            return outputs, running.sums(terms, self.graph.penalty(), samples)

        if not self.input_gradient_penalty:
            outputs, sums = run()
            return outputs, weights, sums
        watched = [value for value in inputs.values() if value.dtype.is_floating]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            outputs, sums = run()
            # The gradient of each sample's own loss: the mean divides by the number of samples.
            loss = samples * running.total(running.means(sums, running.scales(sums)))
        gradients = tape.gradient(loss, watched, unconnected_gradients="zero")
        squares = tf.add_n([tf.reduce_sum(tf.square(tf.cast(gradient, tf.float32))) for gradient in gradients])
        sums.sums[-1] += self.input_gradient_penalty * squares
        return outputs, weights, sums

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
        if not self._reached:
            raise ScenarioError("No loss has a gradient with respect to any weight. Check what the losses compute.")
        left = [w.path for place, w in enumerate(self._weights) if w.trainable and place not in self._reached]
        if not self._told.issuperset(left):
            self._told.update(left)
            more = f" and {len(left) - 3} more" if len(left) > 3 else ""
            logger.warning("No loss depends on %s%s. They keep their values.", ", ".join(left[:3]), more)
        return found

    def _samples(self, columns: Any, step: Any) -> list[Tensors]:
        """Return the inputs, targets and weights of a batch."""
        if self._resident is None:
            return [{name: column[step] for name, column in side.items()} for side in columns]
        numbers = columns[0][NUMBERS][step]
        return [{name: tf.gather(column, numbers) for name, column in side.items()} for side in self._resident]

    def _update_from_group(self) -> None:
        self._update(self.distribution.run(self._group_gradients))

    def _group_gradients(self, replica: int) -> list[Any]:
        """Return the gradients of a completed group of batches, equal to those of one large batch."""
        running = self.metrics.losses(replica)
        state = tf.concat([running.group_sums.value, running.group_samples.value[None]], axis=0)
        state = self.distribution.sum([state])[0]
        added = LossSums.unstacked(state[:-1], running.count)
        scales = running.scales(added)
        running.close_group(running.means(added, scales))
        of_group = [
            tf.math.reciprocal_no_nan(state[-1]) if group.denominator is None else scales[group.denominator]
            for group in self._groups
        ]
        gradients = []
        for place, totals in enumerate(zip(*self.group_gradients[replica], strict=True)):
            if place not in self._reached:
                continue
            parts = [total.value() * tf.cast(scale, total.dtype) for scale, total in zip(of_group, totals, strict=True)]
            gradients.append(tf.add_n(parts))
            for total in totals:
                total.assign(tf.zeros_like(total))
        return gradients

    def _update(self, gradients: Any) -> None:
        if self.distribution.replicas > 1:
            gradients = self.distribution.run(lambda _, values: self.distribution.sum(values), gradients)
        if self.loss_scale is None:
            self._apply(gradients)
        else:
            # The sum is identical on every replica, so any of them can be checked.
            finite = self.distribution.local(self.distribution.run(lambda _, values: _all_finite(values), gradients))
            self.loss_scale.guarded(finite[0], lambda: self._apply(gradients))

    def _apply(self, gradients: Any) -> None:
        self.distribution.run(self._apply_on_replica, gradients)
        if self.average is not None:
            self.average.update()

    def _apply_on_replica(self, replica: int, gradients: list[Any]) -> None:
        del replica
        # As in Keras, weight decay does not apply to weights that no loss depends on.
        reached = [self._weights[place] for place in self._reached]
        self.optimizer.apply(clip(gradients, self.clipping, sliced=self._sums_in_slices), reached)


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
