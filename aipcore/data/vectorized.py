"""Processing of whole blocks of samples as arrays, where all processors can do so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from aipcore.data.adapters import from_samples
from aipcore.data.batching import Layout
from aipcore.data.dataset import ArrayDataset, Rows
from aipcore.data.processing import Chain, Part
from aipcore.data.processor import RandomBatchProcessor
from aipcore.data.random import BatchRandom
from aipcore.data.sample import Sample, SampleBatch
from aipcore.data.sampler import Visits
from aipcore.data.sources import Arrays, Base, DatasetSource, Kept, Plain
from aipcore.errors import ScenarioError


@attrs.frozen(kw_only=True, eq=False)
class AtOnce:
    """Makes samples together.

    Attributes:
        dataset: what to start from.
        part: processors of batches, each with its position among all.
        seed: of the run.
        layout: what the samples must look like.
    """

    dataset: ArrayDataset
    part: Part
    seed: int
    layout: Layout

    def rows(self, task: Visits) -> Rows | None:
        """The samples, or None if something is not as it should be: one by one, it will be found which and why."""
        dataset = self.dataset
        inputs, targets, weights = dataset.take(task.indices)
        batch = SampleBatch(
            inputs=inputs[""] if dataset.inputs.bare else inputs,
            targets=targets[""] if dataset.targets.bare else targets or None,
            weight=weights[""] if dataset.weights.bare else weights or None,
        )
        for position, processor in self.part:
            assert isinstance(processor, RandomBatchProcessor)
            random = BatchRandom(self.seed, task.epochs, position, task.indices)
            made: Any
            try:
                made = processor.process(batch, random)
            except Exception:
                return None
            if not isinstance(made, SampleBatch):
                return None
            batch = made
        count = len(task.indices)
        inputs_made = self.layout.inputs.together(batch.inputs, count)
        targets_made = self.layout.targets.together(batch.targets, count)
        weights_made = self.layout.weights.together(batch.weight, count)
        if inputs_made is None or targets_made is None or weights_made is None:
            return None
        meta = None if dataset.meta is None else [dataset.meta[index] for index in task.indices.tolist()]
        return Rows(inputs=inputs_made, targets=targets_made, weights=weights_made, meta=meta)


def of_batches(part: Part) -> bool:
    """Whether all of these processors take batches."""
    return bool(part) and all(isinstance(processor, RandomBatchProcessor) for _, processor in part)


def side_by_side(kept: Kept, origin: str) -> Base:
    """Kept samples as arrays, if they have one shape."""
    dataset = from_samples(kept.samples, origin, kept.source_indices)
    return Arrays(dataset, np.asarray(kept.source_indices)) if isinstance(dataset, ArrayDataset) else kept


def at_once(base: Base, chain: Chain, part: Part, layout: Layout) -> AtOnce | None:
    """What makes the samples together, if that can be done."""
    dataset: Any = base.dataset if isinstance(base, Arrays) else None
    if isinstance(base, Plain) and isinstance(base.source, DatasetSource):
        dataset = base.source.dataset
    if not isinstance(dataset, ArrayDataset) or not layout.stacked or not of_batches(part):
        return None
    return AtOnce(dataset=dataset, part=part, seed=chain.seed, layout=layout)


def compare(together: AtOnce, alone: Sequence[Sample], origin: str) -> None:
    """Compares the first samples, made together, with what they are alone, on their first visit.

    Raises:
        ScenarioError: they differ.
    """
    indices = np.arange(len(alone))
    rows = together.rows(Visits(indices=indices, epochs=np.zeros(len(alone), np.int64)))
    if rows is None:
        # They will be made one by one, and then it will be found what is wrong.
        return
    for number, sample in enumerate(alone):
        sides = ((rows.inputs, sample.inputs), (rows.targets, sample.targets), (rows.weights, sample.weight))
        for columns, side in sides:
            for name, column in columns.items():
                value = np.asarray(side[name] if isinstance(side, Mapping) else side)
                if not np.array_equal(column[number], value.astype(column.dtype), equal_nan=column.dtype.kind in "fc"):
                    names = ", ".join(processor.name for _, processor in together.part)
                    raise ScenarioError(
                        f"Sample {number} of {origin} comes out of {names} differently alone and in a batch: compute "
                        "each sample from its own values and its own row of random numbers alone, or extend "
                        "RandomProcessor."
                    )
