"""Processing of whole blocks of samples as arrays, where all processors can do so."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from aipcore.data.batching import Layout
from aipcore.data.dataset import Batch, MemoryDataset
from aipcore.data.processing import Part
from aipcore.data.processor import RandomBatchProcessor
from aipcore.data.random import BatchRandom
from aipcore.data.sample import SampleBatch
from aipcore.data.sampler import Indices
from aipcore.errors import ScenarioError


def of_batches(part: Part) -> bool:
    """Whether all of these processors take batches."""
    return bool(part) and all(isinstance(processor, RandomBatchProcessor) for _, processor in part)


@attrs.frozen(eq=False)
class VectorizedProcessing:
    """Makes samples together.

    Attributes:
        dataset: what to start from.
        part: processors of batches, each with its position among all.
        seed: of the run.
        layout: what the samples must look like.
    """

    dataset: MemoryDataset
    part: Part
    seed: int
    layout: Layout

    @classmethod
    def make(cls, dataset: MemoryDataset, part: Part, seed: int, layout: Layout) -> VectorizedProcessing | None:
        """Return what makes the samples together, or None if that cannot be done."""
        if not (dataset.uniform and layout.stacked and of_batches(part)):
            return None
        return cls(dataset, part, seed, layout)

    def batch(self, indices: Indices, epochs: Indices) -> Batch | None:
        """Return samples, or None if something is not as it should be: one by one, it will be found which and why."""
        dataset = self.dataset
        read = dataset.batch(indices)
        batch = SampleBatch(
            inputs=read.inputs[""] if dataset.inputs.bare else read.inputs,
            targets=read.targets[""] if dataset.targets.bare else read.targets or None,
            weight=read.weights[""] if dataset.weights.bare else read.weights or None,
        )
        for position, processor in self.part:
            assert isinstance(processor, RandomBatchProcessor)
            random = BatchRandom(self.seed, epochs, position, indices)
            made: Any
            try:
                made = processor.process(batch, random)
            except Exception:
                return None
            if not isinstance(made, SampleBatch):
                return None
            batch = made
        count = len(indices)
        inputs = self.layout.inputs.together(batch.inputs, count)
        targets = self.layout.targets.together(batch.targets, count)
        weights = self.layout.weights.together(batch.weight, count)
        if inputs is None or targets is None or weights is None:
            return None
        return Batch(inputs=inputs, targets=targets, weights=weights, meta=read.meta)

    def compare(self, alone: MemoryDataset, origin: str) -> None:
        """Compare the first samples, made together, with what they are alone, on their first visit.

        Raises:
            ScenarioError: they differ.
        """
        indices = np.arange(len(alone))
        together = self.batch(indices, np.zeros_like(indices))
        if together is None:
            # They will be made one by one, and then it will be found what is wrong.
            return
        for columns, side in zip(together.sides, alone.sides, strict=True):
            for name, column in columns.items():
                for number in indices.tolist():
                    value = side.columns[name][number].astype(column.dtype)
                    if not np.array_equal(column[number], value, equal_nan=column.dtype.kind in "fc"):
                        names = ", ".join(processor.name for _, processor in self.part)
                        raise ScenarioError(
                            f"Sample {number} of {origin} comes out of {names} differently alone and in a batch: "
                            "compute each sample from its own values and its own row of random numbers alone, or "
                            "extend RandomProcessor."
                        )
