"""Data that is kept on the device as a whole; the host sends sample indices only."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.dataset import Batch, Dataset, MemoryDataset
from aipcore.data.sample import ColumnSpec, Sample, Specs
from aipcore.data.sampler import Indices

NUMBERS = "numbers"
"""The one column of `IndexDataset`."""

MOST_BYTES = 2**28
"""Most bytes of a dataset that is copied to the device."""


def resident(dataset: Dataset) -> MemoryDataset | None:
    """The dataset, if it may lie on the device: samples of one shape, in memory, and not too many."""
    if not isinstance(dataset, MemoryDataset) or not dataset.uniform:
        return None
    size = sum(column.nbytes for side in dataset.sides for column in side.columns.values())
    return dataset if size <= MOST_BYTES else None


@attrs.frozen(eq=False)
class IndexDataset(Dataset):
    """The indices of the samples of a dataset in place of the samples: a `Dataset` of one column, int32."""

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
