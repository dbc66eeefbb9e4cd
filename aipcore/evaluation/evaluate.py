"""Runs a model in inference mode over a data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from aipcore.data.dataset import Dataset
from aipcore.data.feed import Batching, Block, Feed, prefetch
from aipcore.data.order import SampleOrder
from aipcore.scenario.evaluator import Evaluator
from aipcore.scenario.graph import Graph, block_signature
from aipcore.scenario.objective import MetricSet, Objective

CHUNK_BYTES = 16 * 2**20
"""Most bytes of samples that go to the device in one call."""

Tensors = Mapping[str, Any]


class Evaluation:
    """Losses and metrics of a model on one data set, and what an evaluator makes of its outputs.

    Args:
        graph: the model.
        dataset: what it runs on, in its own order.
        objective: the losses.
        metrics: running means, used by this object alone.
        batch_size: samples in a batch.
        eager: whether to compile nothing.
    """

    def __init__(
        self,
        graph: Graph,
        dataset: Dataset,
        objective: Objective,
        metrics: MetricSet,
        *,
        batch_size: int,
        eager: bool = False,
    ) -> None:
        self.dataset = dataset
        self.metrics = metrics
        self._graph = graph
        self._objective = objective
        self.batching = Batching(samples=len(dataset), batch_size=min(batch_size, len(dataset)))
        self._feed = Feed(dataset, SampleOrder(len(dataset), seed=0, shuffle=False), self.batching)
        self._run = self._blocks if eager else self._compiled(self._blocks, axes=2)
        self._outputs = self._batch if eager else self._compiled(self._batch, axes=1)

    def run(self, evaluator: Evaluator | None = None) -> dict[str, float]:
        """One pass over the data.

        Args:
            evaluator: a new one, given every batch's targets and outputs; its results join those of the metrics.

        Returns:
            losses, metrics and evaluator results by name.
        """
        self.metrics.reset()
        for block in prefetch(self._feed.blocks(0, chunk=self._chunk()), lambda block: block):
            if evaluator is None:
                self._run(_constants(block.inputs), _constants(block.targets))
            else:
                self._run_batches(block, evaluator)
        results = self.metrics.result()
        if evaluator is not None:
            results |= {name: float(value) for name, value in evaluator.result().items()}
        return results

    def _run_batches(self, block: Block, evaluator: Evaluator) -> None:
        for step in range(block.steps):
            targets = {name: column[step] for name, column in block.targets.items()}
            inputs = {name: column[step] for name, column in block.inputs.items()}
            outputs = self._outputs(_constants(inputs), _constants(targets))
            first = (block.first + step) * self.batching.batch_size
            meta = self.dataset.meta[first : first + block.batch_size] if self.dataset.meta is not None else None
            evaluator.update(targets, {name: value.numpy() for name, value in outputs.items()}, meta)

    def _compiled(self, function: Any, *, axes: int) -> Any:
        signature = [block_signature(side, axes=axes) for side in self.dataset.specs()]
        return tf.function(function, autograph=False, input_signature=signature)

    def _chunk(self) -> int:
        columns = (*self.dataset.inputs.columns.values(), *self.dataset.targets.columns.values())
        if not self.dataset.uniform:
            return 1
        sample = sum(column.nbytes for column in columns) / len(self.dataset)
        return max(1, int(CHUNK_BYTES / max(1.0, sample * self.batching.batch_size)))

    def _blocks(self, inputs: Tensors, targets: Tensors) -> None:
        steps = tf.shape(next(iter(inputs.values())))[0]

        def body(step: Any) -> Any:
            self._batch(
                {name: column[step] for name, column in inputs.items()},
                {name: column[step] for name, column in targets.items()},
            )
            return [step + 1]

        tf.while_loop(lambda step: step < steps, body, [tf.constant(0)], parallel_iterations=1)

    def _batch(self, inputs: Tensors, targets: Tensors) -> dict[str, Any]:
        outputs = self._graph(inputs, training=False)
        losses = self._objective(inputs, targets, outputs)
        self.metrics.update(targets, outputs, losses, self._graph.penalty())
        return outputs


def _constants(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tf.constant(column) for name, column in columns.items()}
