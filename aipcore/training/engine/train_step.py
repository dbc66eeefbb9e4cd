"""The compiled training loop: a block of batches is copied to the devices, which run all its steps in one call.

One step is forward, backward, clipping, optimizer update and metric update, or several of these if the scenario
defines several updates. A loss is a sum and a denominator. Both are additive over replicas, each of which computes the
gradients of its part of the batch. They are also additive over the batches of an accumulation group, whose gradients
are divided once, before the update that follows the last batch. The same step is compiled in both ways: as a plain
TensorFlow graph and with XLA.

A block contains its samples, or only their indices if the samples are already on the device (`resident`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from aipcore.data.dataset import Columns
from aipcore.data.device_cache import NUMBERS
from aipcore.data.loader import Block
from aipcore.data.sample import Specs
from aipcore.distributed.strategy import Distribution
from aipcore.scenario.losses import Tensors
from aipcore.scenario.model import Graph, block_signature
from aipcore.scenario.replica_metrics import ReplicaMetrics
from aipcore.training.engine.batch_normalization import keras_kernels
from aipcore.training.engine.ema import WeightAverage
from aipcore.training.engine.step_log import StepLog
from aipcore.training.engine.update import AnyStepUpdate, Batch, OptimizerUpdate, TargetUpdate

DeviceBlock = tuple[Any, ...]


class TrainingLoop:
    """The training loop over the batches of a block.

    Args:
        graph: the trained model.
        updates: the updates of a step, in order.
        metrics: the training metrics.
        specs: the specs of inputs, targets and weights.
        distribution: the devices that share each batch.
        accumulate_steps: batches per optimizer update.
        resident: the inputs, targets and weights of all samples, if blocks contain only indices.
        average: the EMA of all trained weights, or None.

    Attributes:
        compiled: the mode of blocks: "graph", "xla" or "eager". With "xla", blocks that are not `Block.fixed` (the
            partial last batch of an epoch, samples larger than all padding sizes) run as "graph", so that each shape
            does not cost an XLA compilation.
        step_log: keeps the values of logged updates, or None.
    """

    def __init__(
        self,
        graph: Graph,
        updates: Sequence[AnyStepUpdate],
        metrics: ReplicaMetrics,
        specs: Specs,
        *,
        distribution: Distribution,
        accumulate_steps: int,
        resident: Sequence[Columns] | None = None,
        average: WeightAverage | None = None,
        step_log: StepLog | None = None,
    ) -> None:
        self.graph = graph
        self.updates = list(updates)
        self.metrics = metrics
        self.distribution = distribution
        self.accumulate_steps = accumulate_steps
        self.average = average
        self.step_log = step_log
        self.compiled = "graph"
        # The forward pass of a single update gives the outputs for the metrics.
        self._separate_metrics = bool(self.trained[0].name and metrics.sets[0].metrics)
        self._resident: list[Tensors] | None = None
        if resident is not None:
            self._resident = [{name: tf.constant(column) for name, column in side.items()} for side in resident]
        sides = tuple(block_signature(side, axes=2) for side in specs)
        scalar = tf.TensorSpec((), tf.int32)
        self._signature = [
            (sides,) * len(distribution.devices),
            tf.TensorSpec((None,), tf.bool),
            scalar,
            scalar,
            scalar,
        ]
        self._varies = any(None in spec.shape for side in specs for spec in side.values())
        self._shapes: set[Any] = set()
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
            # With the shapes of samples of varying size, one trace serves all shapes that XLA compiles.
            xla = tf.function(
                self._run_under_xla,
                autograph=False,
                jit_compile=True,
                input_signature=self._signature if self._varies else None,
            )
            self._phases[phase] = plain, xla, single
        self._plain, self._xla, self._single = self._phases[phase]

    @property
    def trained(self) -> list[OptimizerUpdate]:
        """The updates with a loss."""
        return [each for each in self.updates if isinstance(each, OptimizerUpdate)]

    @property
    def variables(self) -> list[Any]:
        """The loop's own state, in addition to that of the model, the optimizers and the metrics."""
        return [variable for each in self.trained for variable in each.variables]

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
            tf.constant(block.batch_size, tf.int32),
        )

    def run(self, block: DeviceBlock, *, fixed: bool, single: bool = False) -> None:
        """Run the steps of a block.

        Args:
            block: the result of `prepare`.
            fixed: `Block.fixed`. XLA compiles the loop for each shape of these blocks.
            single: if True, run its one step without a loop around it, because a profile counts the iterations of any
                loop as training steps.
        """
        if self.compiled == "eager":
            self._run(*block)
        elif self.compiled == "xla" and fixed:
            self._shapes.add((self._xla, *(tuple(column.shape) for column in tf.nest.flatten(block[0]))))
            self._xla(*block)
        elif single:
            self._single(*block)
        else:
            self._plain(*block)

    def wait(self) -> None:
        """Wait until all steps so far are done."""
        for replica in range(len(self.metrics.sets)):
            for update in self.trained:
                self.metrics.losses(replica, update.name).samples.numpy()

    @property
    def traces(self) -> int:
        """The number of times that the loop has been traced."""
        each = (function for plain, xla, _ in self._phases.values() for function in (plain, xla))
        return sum(int(function.experimental_get_tracing_count()) for function in each)

    @property
    def compilations(self) -> int:
        """The number of compilations by XLA: one for each shape of blocks in each phase."""
        return len(self._shapes)

    def compiled_gradients(self) -> Any:
        """Return a compiled function from a prepared block to the gradients of its first batch. It changes no weight.

        It updates the metrics. With accumulation, the gradients are added to those of the group instead.
        """
        return tf.function(self._gradients, autograph=False, input_signature=self._signature)

    def _gradients(self, columns: Any, updates: Any, steps: Any, parts: Any, size: Any) -> list[Any]:
        del updates, steps
        own, batch = self.distribution.per_replica(columns), Batch(tf.constant(0), parts, size)
        if self._separate_metrics:
            self.distribution.run(self._update_metrics, own, batch.step, batch.parts)
        found = [gradient for each in self.trained for gradient in each.gradients(self._read, own, batch)]
        return [tf.convert_to_tensor(gradient) for gradient in found]

    def _run_under_xla(self, *block: Any) -> None:
        # Set while the loop is traced.
        for update in self.trained:
            update.sums_in_slices = not tf.config.list_logical_devices("GPU")
        try:
            with keras_kernels():
                self._run(*block)
        finally:
            for update in self.trained:
                update.sums_in_slices = False

    def _run(self, columns: Any, updates: Any, steps: Any, parts: Any, size: Any) -> None:
        own = self.distribution.per_replica(columns)

        def body(step: Any) -> Any:
            self._step(own, Batch(step, parts, size), updates[step])
            return [step + 1]

        if self.step_log is not None:
            self.step_log.loop(body, steps)
        else:
            tf.while_loop(lambda step: step < steps, body, [tf.constant(0)], parallel_iterations=1)

    def _run_single(self, columns: Any, updates: Any, steps: Any, parts: Any, size: Any) -> None:
        del steps
        self._step(self.distribution.per_replica(columns), Batch(tf.constant(0), parts, size), updates[0])
        if self.step_log is not None:
            self.step_log.after_single()

    def _step(self, columns: Any, batch: Batch, due: Any) -> None:
        if self._separate_metrics:
            self.distribution.run(self._update_metrics, columns, batch.step, batch.parts)
        if self.accumulate_steps == 1:
            for each in self.updates:
                if isinstance(each, TargetUpdate):
                    each.apply()
                else:
                    _repeat(each.times, partial(self._update, each, columns, batch))
            return
        # All gradients of a group are those of the weights before it, as if it were one batch.
        for each in self.trained:
            each.gradients(self._read, columns, batch)
        tf.cond(due, self._update_from_group, lambda: None)

    def _update(self, update: OptimizerUpdate, columns: Any, batch: Batch) -> None:
        update.apply(update.gradients(self._read, columns, batch))

    def _update_from_group(self) -> None:
        for each in self.updates:
            if isinstance(each, TargetUpdate):
                each.apply()
            else:
                each.apply_group()

    def _read(self, columns: Any, step: Any) -> list[Tensors]:
        """Return the inputs, targets and weights of a batch."""
        if self._resident is None:
            return [{name: column[step] for name, column in side.items()} for side in columns]
        numbers = columns[0][NUMBERS][step]
        return [{name: tf.gather(column, numbers) for name, column in side.items()} for side in self._resident]

    def _update_metrics(self, replica: int, columns: Any, step: Any, parts: Any) -> None:
        """Update the metrics with the outputs of the model before the updates of a step, in inference mode."""
        inputs, targets, weights = self._read(columns, step)
        outputs = self.graph(inputs, training=False)
        self.metrics.update(replica, replica < parts, targets, outputs, weights)


def _repeat(times: int, run: Callable[[], object]) -> None:
    """Call a function several times, within a compiled step."""
    if times == 1:
        run()
        return

    def body(done: Any) -> Any:
        run()
        return [done + 1]

    tf.while_loop(lambda done: done < times, body, [tf.constant(0)], parallel_iterations=1)
