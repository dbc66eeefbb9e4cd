"""The compiled training loop: a block of batches goes to the devices, which run all its steps before answering.

One step is forward, backward, clipping, optimizer update and metric update; under gradient accumulation the gradients
of several batches are summed, weighted by their samples, and the update follows the last of them. The same step serves
both ways of compiling, a plain TensorFlow graph and XLA, and one device as well as several: each replica computes the
gradients of its part of the batch, and their sum over the replicas is that of the whole batch.

Samples come with the block, or lie on the device already (`resident`), and the block has their numbers only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import tensorflow as tf

from aipcore.data.dataset import Columns
from aipcore.data.feed import Block
from aipcore.data.resident import NUMBERS
from aipcore.data.specs import ColumnSpec
from aipcore.devices.distribution import Distribution, ReplicaVariables
from aipcore.hooks.kinds import OptimizerParams
from aipcore.scenario.graph import Graph, block_signature
from aipcore.scenario.metrics import ReplicaMetrics
from aipcore.scenario.objective import Objective
from aipcore.training.clipping import clip
from aipcore.training.ema import WeightAverage
from aipcore.training.loss_scale import LossScale

Tensors = Mapping[str, Any]
DeviceBlock = tuple[Any, ...]


@attrs.frozen
class Batch:
    """Where a batch is: symbolic values that all replicas share.

    Attributes:
        step: its index in the block, an int32 scalar.
        samples: samples in the whole batch, a float32 scalar.
        parts: how many replicas of this worker have samples of their own, an int32 scalar.
    """

    step: Any
    samples: Any
    parts: Any


class TrainingLoop:
    """Runs blocks of training batches.

    Attributes:
        compiled: "graph", "xla" or "eager"; how full blocks run. Batches of another shape (the partial last one of an
            epoch, samples of varying size) run as "graph" under "xla", so that no shape costs an XLA compilation.
    """

    def __init__(
        self,
        graph: Graph,
        optimizer: Any,
        objective: Objective,
        metrics: ReplicaMetrics,
        specs: tuple[Mapping[str, ColumnSpec], Mapping[str, ColumnSpec]],
        *,
        distribution: Distribution,
        clipping: OptimizerParams,
        accumulate_steps: int,
        resident: tuple[Columns, Columns] | None = None,
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
        self.average = average
        self.loss_scale = loss_scale
        self.compiled = "graph"
        self._weights = graph.model.trainable_variables
        self._values = [weight.value for weight in self._weights]
        self.group_samples = tf.Variable(0.0, trainable=False, name="group_samples")
        self.group_gradients = [self._zeros(replica) for replica in range(len(distribution.devices))]
        self._resident: list[Tensors] | None = None
        if resident is not None:
            self._resident = [{name: tf.constant(column) for name, column in side.items()} for side in resident]
        sides = tuple(block_signature(side, axes=2) for side in specs)
        signature = [
            (sides,) * len(distribution.devices),
            tf.TensorSpec((None,), tf.bool),
            tf.TensorSpec((), tf.int32),
            tf.TensorSpec((), tf.float32),
            tf.TensorSpec((), tf.int32),
        ]
        self._plain = tf.function(self._run, autograph=False, input_signature=signature)
        self._xla = tf.function(self._run_under_xla, autograph=False, jit_compile=True)
        self._sums_in_slices = False
        self._single = tf.function(self._run_single, autograph=False, input_signature=signature)

    def _zeros(self, replica: int) -> list[Any]:
        """The sums of a replica's gradients over the batches of a group; plain variables, see `Distribution`."""
        if self.accumulate_steps == 1:
            return []
        with self.distribution.on_replica(replica):
            return [
                tf.Variable(tf.zeros(value.shape, value.dtype), trainable=False, name=f"group_gradient/{weight.path}")
                for weight, value in zip(self._weights, self._values, strict=True)
            ]

    @property
    def variables(self) -> list[Any]:
        """The loop's own state beside the model's, the optimizer's and the metrics'."""
        scale = [] if self.loss_scale is None else self.loss_scale.variables
        sums = [ReplicaVariables(list(parts)) for parts in zip(*self.group_gradients, strict=True)]
        return [self.group_samples, *sums, *scale]

    def prepare(self, block: Block, updates: list[bool]) -> DeviceBlock:
        """Copies a block to the devices.

        Args:
            block: the batches.
            updates: for each batch, whether an optimizer update follows it.
        """
        room = len(next(iter(block.inputs.values())))
        flags = np.zeros(room, bool)
        flags[: block.steps] = updates
        inputs, targets = (self.distribution.split(side, axis=1) for side in (block.inputs, block.targets))
        return (
            tuple(zip(inputs, targets, strict=True)),
            tf.constant(flags),
            tf.constant(block.steps, tf.int32),
            tf.constant(block.batch_size, tf.float32),
            tf.constant(self.distribution.parts(block.batch_size), tf.int32),
        )

    def run(self, block: DeviceBlock, *, full: bool, single: bool = False) -> None:
        """Runs the steps of a block.

        Args:
            block: as `prepare` made it.
            full: whether it has the one shape that XLA is compiled for.
            single: whether to run its one step without a loop around it: a profile takes the turns of any loop for the
                steps of training.
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
        """Returns when the steps so far are done."""
        for each in self.metrics.sets:
            each.total.result().numpy()

    @property
    def traces(self) -> int:
        """How often the loop was traced."""
        return int(self._plain.experimental_get_tracing_count() + self._xla.experimental_get_tracing_count())

    def _run_under_xla(self, *block: Any) -> None:
        # While it is traced.
        self._sums_in_slices = not tf.config.list_logical_devices("GPU")
        try:
            self._run(*block)
        finally:
            self._sums_in_slices = False

    def _run(self, columns: Any, updates: Any, steps: Any, samples: Any, parts: Any) -> None:
        own = self.distribution.per_replica(columns)

        def body(step: Any) -> Any:
            self._step(own, Batch(step, samples, parts), updates[step])
            return [step + 1]

        tf.while_loop(lambda step: step < steps, body, [tf.constant(0)], parallel_iterations=1)

    def _run_single(self, columns: Any, updates: Any, steps: Any, samples: Any, parts: Any) -> None:
        del steps
        self._step(self.distribution.per_replica(columns), Batch(tf.constant(0), samples, parts), updates[0])

    def _step(self, columns: Any, batch: Batch, update: Any) -> None:
        gradients = self.distribution.run(self._replica_gradients, columns, batch.step, batch.samples, batch.parts)
        if self.accumulate_steps == 1:
            self._update(gradients)
            return
        self.group_samples.assign_add(batch.samples)
        tf.cond(update, self._update_from_group, lambda: None)

    def _replica_gradients(self, replica: int, columns: Any, step: Any, samples: Any, parts: Any) -> list[Any]:
        """The gradients of a replica's part of a batch: of the batch's mean loss, or of the sum, to be accumulated."""
        inputs, targets = self._samples(columns, step)
        own = tf.cast(tf.shape(next(iter(inputs.values())))[0], tf.float32)
        counts = replica < parts
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._values)
            outputs = self.graph(inputs, training=True)
            losses = self.objective(inputs, targets, outputs)
            penalty = self.graph.penalty()
            summed = tf.add_n([tf.reduce_sum(value) for value in losses.values()]) + own * penalty
            objective = summed / samples if self.accumulate_steps == 1 else summed
            if self.distribution.replicas > 1:
                objective *= tf.cast(counts, tf.float32)
            if self.loss_scale is not None:
                objective = self.loss_scale.scaled(objective)
        gradients = tape.gradient(objective, self._values, unconnected_gradients="zero")
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        if self.loss_scale is not None:
            gradients = self.loss_scale.unscaled(gradients)
        if self.distribution.replicas == 1:
            self.metrics.update(replica, targets, outputs, losses, penalty)
        else:
            tf.cond(counts, lambda: self.metrics.update(replica, targets, outputs, losses, penalty), lambda: None)
        if self.accumulate_steps == 1:
            return gradients
        for total, gradient in zip(self.group_gradients[replica], gradients, strict=True):
            total.assign_add(gradient)
        return []

    def _samples(self, columns: Any, step: Any) -> list[Tensors]:
        """The inputs and targets of a batch."""
        if self._resident is None:
            return [{name: column[step] for name, column in side.items()} for side in columns]
        numbers = columns[0][NUMBERS][step]
        return [{name: tf.gather(column, numbers) for name, column in side.items()} for side in self._resident]

    def _update_from_group(self) -> None:
        self._update(self.distribution.run(self._group_mean))
        self.distribution.run(self._empty_group)
        self.group_samples.assign(0.0)

    def _group_mean(self, replica: int) -> list[Any]:
        return [total / tf.cast(self.group_samples, total.dtype) for total in self.group_gradients[replica]]

    def _empty_group(self, replica: int) -> None:
        for total in self.group_gradients[replica]:
            total.assign(tf.zeros_like(total))

    def _update(self, gradients: Any) -> None:
        if self.distribution.replicas > 1:
            gradients = self.distribution.run(lambda _, values: self.distribution.sum(values), gradients)
        if self.loss_scale is None:
            self._apply(gradients)
        else:
            # The sum is the same on every replica: each may answer for all.
            finite = self.distribution.local(self.distribution.run(lambda _, values: _all_finite(values), gradients))
            self.loss_scale.guarded(finite[0], lambda: self._apply(gradients))

    def _apply(self, gradients: Any) -> None:
        self.distribution.run(self._apply_on_replica, gradients)
        if self.average is not None:
            self.average.update()

    def _apply_on_replica(self, replica: int, gradients: list[Any]) -> None:
        del replica
        self.optimizer.apply(clip(gradients, self.clipping, sliced=self._sums_in_slices), self._weights)


def _all_finite(gradients: list[Any]) -> Any:
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
