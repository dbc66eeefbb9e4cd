"""Vectorized processing: whole blocks of samples as arrays, where all processors allow it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from aipcore.data.batching import Layout
from aipcore.data.dataset import Batch, MemoryDataset
from aipcore.data.processing import Part
from aipcore.data.processor import RandomBatchProcessor
from aipcore.data.random import BatchRandom, partner_indices
from aipcore.data.sample import SampleBatch
from aipcore.data.sampler import Indices
from aipcore.errors import ScenarioError


def of_batches(part: Part) -> bool:
    """Return True if all of the processors take batches."""
    return bool(part) and all(isinstance(processor, RandomBatchProcessor) for _, processor in part)


@attrs.frozen(eq=False)
class VectorizedProcessing:
    """Batch processing of samples in memory.

    Attributes:
        dataset: the unprocessed samples.
        part: the batch processors, each with its position among all processors.
        seed: the seed of the run.
        layout: the required layout of the samples.
    """

    dataset: MemoryDataset
    part: Part
    seed: int
    layout: Layout

    @classmethod
    def make(cls, dataset: MemoryDataset, part: Part, seed: int, layout: Layout) -> VectorizedProcessing | None:
        """Return the vectorized processing, or None if it is not possible."""
        if not (dataset.uniform and layout.stacked and of_batches(part)):
            return None
        return cls(dataset, part, seed, layout)

    def batch(self, indices: Indices, epochs: Indices) -> Batch | None:
        """Return samples as a batch, or None if they are invalid: processing one by one then finds the cause."""
        batch = self._processed(self.part, indices, epochs)
        if batch is None:
            return None
        count = len(indices)
        inputs = self.layout.inputs.together(batch.inputs, count)
        targets = self.layout.targets.together(batch.targets, count)
        weights = self.layout.weights.together(batch.weight, count)
        if inputs is None or targets is None or weights is None:
            return None
        meta = self.dataset.meta
        return Batch(
            inputs=inputs,
            targets=targets,
            weights=weights,
            meta=None if meta is None else [meta[index] for index in indices.tolist()],
        )

    def _processed(self, part: Part, indices: Indices, epochs: Indices) -> SampleBatch | None:
        """Return samples after some of the processors, or None if they are invalid."""
        if not part:
            dataset = self.dataset
            read = dataset.batch(indices)
            return SampleBatch(
                inputs=read.inputs[""] if dataset.inputs.bare else read.inputs,
                targets=read.targets[""] if dataset.targets.bare else read.targets or None,
                weight=read.weights[""] if dataset.weights.bare else read.weights or None,
            )
        *before, (position, processor) = part
        assert isinstance(processor, RandomBatchProcessor)
        random = BatchRandom(self.seed, epochs, position, indices)
        batches = [self._processed(before, indices, epochs)]
        if processor.partners:
            drawn = partner_indices(random.random(processor.partners), indices[:, None], len(self.dataset))
            batches += [self._processed(before, column, epochs) for column in drawn.T]
        if any(batch is None for batch in batches):
            return None
        process: Callable[..., Any] = processor.process
        try:
            made = process(batches[0], random, *batches[1:])
        except Exception:
            return None
        return made if isinstance(made, SampleBatch) else None

    def compare(self, alone: MemoryDataset, origin: str) -> None:
        """Compare the first samples, processed as a batch, with the same samples processed alone, on their first visit.

        Raises:
            ScenarioError: they differ.
        """
        indices = np.arange(len(alone))
        together = self.batch(indices, np.zeros_like(indices))
        if together is None:
            # Processing one by one then reports the error.
            return
        for columns, side in zip(together.sides, alone.sides, strict=True):
            for name, column in columns.items():
                for number in indices.tolist():
                    value = np.asarray(side.columns[name][number], column.dtype)
                    if not np.array_equal(column[number], value, equal_nan=column.dtype.kind in "fc"):
                        names = ", ".join(processor.name for _, processor in self.part)
                        raise ScenarioError(
                            f"After {names}, sample {number} of {origin} has different values alone and in a batch. "
                            "Compute each sample only from its own values and its own row of random numbers, or "
                            "extend RandomProcessor."
                        )
