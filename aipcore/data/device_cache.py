"""Datasets held entirely on the device; the host sends sample indices only."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.dataset import Batch, Dataset, MemoryDataset
from aipcore.data.sample import ColumnSpec, Sample, Specs
from aipcore.data.sampler import Indices
from aipcore.data.strings import OBJECT

NUMBERS = "numbers"
"""The name of the only column of `IndexDataset`."""

MOST_BYTES = 2**28
"""Largest dataset copied to the device, in bytes."""


def resident(dataset: Dataset) -> MemoryDataset | None:
    """Return the dataset if the device can hold it: numbers in memory, of one shape, and small enough; else None."""
    if not isinstance(dataset, MemoryDataset) or not dataset.uniform:
        return None
    columns = [column for side in dataset.sides for column in side.columns.values()]
    if any(column.dtype == OBJECT for column in columns):
        return None
    size = sum(column.nbytes for column in columns)
    return dataset if size <= MOST_BYTES else None


@attrs.frozen(eq=False)
class IndexDataset(Dataset):
    """A dataset of sample indices in place of the samples: one int32 column."""

    dataset: MemoryDataset

    @property
    def uniform(self) -> bool:
        """See `Dataset`."""
        return True

    def __len__(self) -> int:
        return len(self.dataset)

    def sample(self, index: int, epoch: int = 0) -> Sample:
        """See `Dataset`."""
        return Sample(inputs={NUMBERS: np.int32(index)})

    def batch(self, indices: Indices, epochs: Indices | None = None) -> Batch:
        """See `Dataset`."""
        return Batch(inputs={NUMBERS: indices.astype(np.int32)}, targets={})

    def specs(self) -> Specs:
        """See `Dataset`."""
        return {NUMBERS: ColumnSpec(shape=(), dtype="int32")}, {}, {}

    def known(self) -> MemoryDataset:
        """See `Dataset`."""
        return self.dataset

    def lengths(self) -> npt.NDArray[np.int64]:
        """See `Dataset`."""
        return self.dataset.lengths()
