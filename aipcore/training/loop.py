"""The compiled training loop: a block of batches goes to the device, which runs all its steps before answering.

One step is forward, backward, clipping, optimizer update and metric update; under gradient accumulation the gradients
of several batches are summed, weighted by their samples, and the update follows the last of them. The same step serves
both ways of compiling: a plain TensorFlow graph and XLA.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from aipcore.data.dataset import ColumnSpec
from aipcore.data.feed import Block
from aipcore.hooks.kinds import OptimizerParams
from aipcore.scenario.graph import Graph, block_signature
from aipcore.scenario.objective import MetricSet, Objective
from aipcore.training.clipping import clip
from aipcore.training.ema import WeightAverage
from aipcore.training.loss_scale import LossScale

Tensors = Mapping[str, Any]
DeviceBlock = tuple[dict[str, Any], dict[str, Any], Any, Any]


class TrainingLoop:
    """Runs blocks of training batches on one device.

    Attributes:
        compiled: "graph", "xla" or "eager"; how full blocks run. Batches of another shape (the partial last one of an
            epoch, samples of varying size) run as "graph" under "xla", so that no shape costs an XLA compilation.
    """

    def __init__(
        self,
        graph: Graph,
        optimizer: Any,
        objective: Objective,
        metrics: MetricSet,
        specs: tuple[Mapping[str, ColumnSpec], Mapping[str, ColumnSpec]],
        *,
        clipping: OptimizerParams,
        accumulate_steps: int,
        average: WeightAverage | None = None,
        loss_scale: LossScale | None = None,
    ) -> None:
        self.graph = graph
        self.optimizer = optimizer
        self.objective = objective
        self.metrics = metrics
        self.clipping = clipping
        self.accumulate_steps = accumulate_steps
        self.average = average
        self.loss_scale = loss_scale
        self.compiled = "graph"
        self._weights = graph.model.trainable_variables
        self._values = [weight.value for weight in self._weights]
        self.group_samples = tf.Variable(0.0, trainable=False, name="group_samples")
        self.group_gradients = (
            [tf.Variable(tf.zeros(v.shape, v.dtype), trainable=False, name="group_gradient") for v in self._values]
            if accumulate_steps > 1
            else []
        )
        signature = [
            *(block_signature(side, axes=2) for side in specs),
            tf.TensorSpec((None,), tf.bool),
            tf.TensorSpec((), tf.int32),
        ]
        self._plain = tf.function(self._run, autograph=False, input_signature=signature)
        self._xla = tf.function(self._run, autograph=False, jit_compile=True)

    @property
    def variables(self) -> list[Any]:
        """The loop's own state beside the model's, the optimizer's and the metrics'."""
        scale = [] if self.loss_scale is None else self.loss_scale.variables
        return [self.group_samples, *self.group_gradients, *scale]

    def prepare(self, block: Block, updates: list[bool]) -> DeviceBlock:
        """Copies a block to the device.

        Args:
            block: the batches.
            updates: for each batch, whether an optimizer update follows it.
        """
        room = len(next(iter(block.inputs.values())))
        flags = np.zeros(room, bool)
        flags[: block.steps] = updates
        return (
            {name: tf.constant(column) for name, column in block.inputs.items()},
            {name: tf.constant(column) for name, column in block.targets.items()},
            tf.constant(flags),
            tf.constant(block.steps, tf.int32),
        )

    def run(self, block: DeviceBlock, *, full: bool) -> None:
        """Runs the steps of a block; `full` says that it has the one shape that XLA is compiled for."""
        if self.compiled == "eager":
            self._run(*block)
        elif self.compiled == "xla" and full:
            self._xla(*block)
        else:
            self._plain(*block)

    @property
    def traces(self) -> int:
        """How often the loop was traced."""
        return int(self._plain.experimental_get_tracing_count() + self._xla.experimental_get_tracing_count())

    def _run(self, inputs: Tensors, targets: Tensors, updates: Any, steps: Any) -> None:
        def body(step: Any) -> Any:
            self._step(
                {name: column[step] for name, column in inputs.items()},
                {name: column[step] for name, column in targets.items()},
                updates[step],
            )
            return [step + 1]

        tf.while_loop(lambda step: step < steps, body, [tf.constant(0)], parallel_iterations=1)

    def _step(self, inputs: Tensors, targets: Tensors, update: Any) -> None:
        samples = tf.cast(tf.shape(next(iter(inputs.values())))[0], tf.float32)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._values)
            outputs = self.graph(inputs, training=True)
            losses = self.objective(inputs, targets, outputs)
            penalty = self.graph.penalty()
            summed = tf.add_n([tf.reduce_sum(value) for value in losses.values()]) + samples * penalty
            objective = summed / samples if self.accumulate_steps == 1 else summed
            if self.loss_scale is not None:
                objective = self.loss_scale.scaled(objective)
        gradients = tape.gradient(objective, self._values, unconnected_gradients="zero")
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        if self.loss_scale is not None:
            gradients = self.loss_scale.unscaled(gradients)
        self.metrics.update(targets, outputs, losses, penalty)
        if self.accumulate_steps == 1:
            self._update(gradients)
            return
        for total, gradient in zip(self.group_gradients, gradients, strict=True):
            total.assign_add(gradient)
        self.group_samples.assign_add(samples)
        tf.cond(update, self._update_from_group, lambda: None)

    def _update_from_group(self) -> None:
        self._update([total / tf.cast(self.group_samples, total.dtype) for total in self.group_gradients])
        for total in self.group_gradients:
            total.assign(tf.zeros_like(total))
        self.group_samples.assign(0.0)

    def _update(self, gradients: list[Any]) -> None:
        if self.loss_scale is None:
            self._apply(gradients)
        else:
            self.loss_scale.guarded(gradients, lambda: self._apply(gradients))

    def _apply(self, gradients: list[Any]) -> None:
        self.optimizer.apply(clip(gradients, self.clipping), self._weights)
        if self.average is not None:
            self.average.update()
