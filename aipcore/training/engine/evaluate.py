"""Evaluation of a model on a dataset, in inference mode."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from aipcore.data.batching import Batching
from aipcore.data.dataset import Dataset
from aipcore.data.loader import Block, DataLoader, prefetch
from aipcore.data.sampler import Buckets, SampleOrder
from aipcore.distributed.strategy import Distribution
from aipcore.scenario.evaluator import Evaluator
from aipcore.scenario.losses import Objective, Tensors
from aipcore.scenario.model import GraphLike, block_signature
from aipcore.scenario.replica_metrics import ReplicaMetrics
from aipcore.scenario.sample_random import Part

CHUNK_BYTES = 16 * 2**20
"""Maximum bytes of samples that are copied to the device in one call."""


class Evaluation:
    """Losses and metrics of a model on one dataset, and an evaluator's results for its outputs.

    Args:
        graph: the model.
        dataset: the samples, in their own order.
        objective: the losses.
        metrics: running means, used only by this object.
        batch_size: samples in a batch.
        distribution: the devices that share each batch.
        eager: if True, compile nothing.
        bucket_window: number of batches within which samples are sorted by length, in passes without an evaluator and
            without hooks; 0: no sorting.
    """

    def __init__(
        self,
        graph: GraphLike,
        dataset: Dataset,
        objective: Objective,
        metrics: ReplicaMetrics,
        *,
        batch_size: int,
        distribution: Distribution,
        eager: bool = False,
        bucket_window: int = 0,
    ) -> None:
        self.dataset = dataset
        self.metrics = metrics
        self._graph = graph
        self._objective = objective
        self._distribution = distribution
        self.batching = Batching(samples=len(dataset), batch_size=min(batch_size, len(dataset)))
        self._order = SampleOrder(len(dataset), seed=0, shuffle=False)
        self._bucket_window = 0 if dataset.uniform else bucket_window
        self._run: Any = self._blocks
        self._outputs: Any = self._batch
        self._eager = eager
        self.compile()

    def compile(self) -> None:
        """Compile the pass for the current `trainable` flags, on which losses of regularizers depend."""
        if not self._eager:
            self._run = self._compiled(self._blocks, axes=2)
            self._outputs = self._compiled(self._batch, axes=1)

    def run(self, evaluator: Evaluator | None = None, batch_hooks: Any = None) -> dict[str, float]:
        """Run one pass over the data.

        Args:
            evaluator: a new evaluator, which receives the targets and outputs of every batch; its results are added to
                those of the metrics. Only the chief's evaluator is used, but the other workers need one too.
            batch_hooks: a Keras callback (list) whose `on_test_batch_begin` and `on_test_batch_end` are called for
                every batch, until they set `model.stop_evaluating`; not together with an evaluator.

        Returns:
            Losses, metrics and evaluator results by name, identical on all workers.
        """
        self.metrics.reset()
        share = None if self._gives_all(evaluator) else self._distribution.share
        order = self._sorted if self._bucket_window and evaluator is None and batch_hooks is None else self._order
        loader = DataLoader(self.dataset, order, self.batching, share)
        chunk = self._chunk() if batch_hooks is None else 1
        with closing(prefetch(loader.blocks(0, chunk=chunk), lambda block: block)) as blocks:
            for part in blocks:
                block = loader.padded_alike(part, self._distribution.processes.exchange)
                sides = (block.inputs, block.targets, block.weights)
                if batch_hooks is not None:
                    batch_hooks.on_test_batch_begin(block.first)
                    self._run(*self._on_devices(sides, block.batch_size, axis=1))
                    batch_hooks.on_test_batch_end(block.first, self.metrics.result())
                    if batch_hooks.model.stop_evaluating:
                        break
                elif evaluator is None:
                    self._run(*self._on_devices(sides, block.batch_size, axis=1))
                else:
                    self._run_batches(block, evaluator)
        results = self.metrics.result()
        if evaluator is not None:
            own = evaluator.result() if self._distribution.processes.is_chief else {}
            own = {name: float(value) for name, value in own.items()}
            results |= self._distribution.processes.broadcast("evaluator", own)
        return results

    @cached_property
    def _sorted(self) -> SampleOrder:
        lengths, batch_size = self.dataset.lengths(), self.batching.batch_size
        buckets = Buckets(lengths=lengths, batch_size=batch_size, window=self._bucket_window)
        return SampleOrder(len(lengths), seed=0, shuffle=False, buckets=buckets)

    def _gives_all(self, evaluator: Evaluator | None) -> bool:
        """Return True if this worker needs whole batches, for their targets."""
        return evaluator is not None and self._distribution.processes.is_chief

    def _run_batches(self, block: Block, evaluator: Evaluator) -> None:
        share = self._distribution.share if self._gives_all(evaluator) else None
        own = slice(None) if share is None else share(block.batch_size)
        for step in range(block.steps):
            targets = {name: column[step] for name, column in block.targets.items()}
            sides = [
                {name: column[step][own] for name, column in side.items()}
                for side in (block.inputs, block.targets, block.weights)
            ]
            outputs = self._outputs(*self._on_devices(sides, block.batch_size, axis=0))
            first = step * block.batch_size
            meta = None if block.meta is None else block.meta[first : first + block.batch_size]
            gathered = self._gathered(outputs, block.batch_size)
            if self._distribution.processes.is_chief:
                evaluator.update(targets, gathered, meta)

    def _on_devices(self, sides: Sequence[Tensors], batch_size: int, *, axis: int) -> tuple[Any, Any, Any]:
        """Return the columns on their devices, one part per replica, the number of parts that count, and the size."""
        split = (self._distribution.split(side, axis=axis) for side in sides)
        parts = self._distribution.parts(batch_size)
        return tuple(zip(*split, strict=True)), tf.constant(parts, tf.int32), tf.constant(batch_size, tf.int32)

    def _gathered(self, outputs: list[dict[str, Any]], batch_size: int) -> dict[str, Any]:
        """Return the outputs of the whole batch in order, on the chief; nothing on the other workers."""
        counted = outputs[: self._distribution.parts(batch_size)]
        own = {name: np.concatenate([part[name].numpy() for part in counted]) for name in outputs[0] if counted}
        parts = [part for part in self._distribution.processes.gather_arrays("outputs", own) if part]
        return {name: np.concatenate([part[name] for part in parts]) for name in outputs[0] if parts}

    def _compiled(self, function: Any, *, axes: int) -> Any:
        sides = tuple(block_signature(side, axes=axes) for side in self.dataset.specs())
        scalar = tf.TensorSpec((), tf.int32)
        signature = [(sides,) * len(self._distribution.devices), scalar, scalar]
        return tf.function(function, autograph=False, input_signature=signature)

    def _chunk(self) -> int:
        if not self.dataset.uniform:
            return 1
        sample = sum(spec.nbytes for side in self.dataset.specs() for spec in side.values())
        return max(1, CHUNK_BYTES // max(1, sample * self.batching.batch_size))

    def _blocks(self, columns: Any, parts: Any, size: Any) -> None:
        own = self._distribution.per_replica(columns)
        steps = tf.shape(next(iter(columns[0][0].values())))[0]

        def body(step: Any) -> Any:
            self._distribution.run(self._replica_step, own, step, parts, size)
            return [step + 1]

        tf.while_loop(lambda step: step < steps, body, [tf.constant(0)], parallel_iterations=1)

    def _replica_step(self, replica: int, columns: Any, step: Any, parts: Any, size: Any) -> None:
        sides = tuple({name: column[step] for name, column in side.items()} for side in columns)
        self._replica_batch(replica, sides, parts, size)

    def _batch(self, columns: Any, parts: Any, size: Any) -> list[dict[str, Any]]:
        """Return the outputs of each replica."""
        outputs = self._distribution.run(self._replica_batch, self._distribution.per_replica(columns), parts, size)
        per_output = {name: self._distribution.local(value) for name, value in outputs.items()}
        return [dict(zip(per_output, values, strict=True)) for values in zip(*per_output.values(), strict=True)]

    def _replica_batch(self, replica: int, columns: Any, parts: Any, size: Any) -> dict[str, Any]:
        inputs, targets, weights = columns
        outputs = self._graph(inputs, training=False)
        count = tf.shape(next(iter(inputs.values())))[0]
        samples = tf.cast(count, tf.float32)
        part = Part.of(self._distribution, replica, count, size)
        terms = self._objective(inputs, targets, outputs, weights, samples, part)
        counts = replica < parts
        own = samples if self._distribution.replicas == 1 else samples * tf.cast(counts, tf.float32)
        # Losses of updates have the penalties of their layers.
        penalty = self._graph.penalty() if terms and not self._objective.separate else None
        for running, chosen in self.metrics.with_losses(replica, terms) if terms else ():
            sums = running.sums(chosen, penalty, samples)
            if self._distribution.replicas > 1:
                sums = sums.scaled(tf.cast(counts, tf.float32)).over_replicas(self._distribution)
            running.add_batch(running.means(sums, running.scales(sums)), own)
        self.metrics.update(replica, counts, targets, outputs, weights)
        return outputs
