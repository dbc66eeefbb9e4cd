"""Data that is kept on the device as a whole; the host sends sample indices only."""

from __future__ import annotations

from collections.abc import Generator, Iterable

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.dataset import ArrayDataset, Dataset, Rows, Sides
from aipcore.data.sample import ColumnSpec, Specs
from aipcore.data.sampler import Visits

NUMBERS = "numbers"
"""The one column of `IndexDataset`."""

MOST_BYTES = 2**28
"""Most bytes of a data set that is copied to the device."""


def resident(dataset: Dataset) -> ArrayDataset | None:
    """The data set, if it may lie on the device: samples of one shape, in memory, and not too many."""
    if not isinstance(dataset, ArrayDataset):
        return None
    sides = (dataset.inputs, dataset.targets, dataset.weights)
    size = sum(column.nbytes for fields in sides for column in fields.columns.values())
    return dataset if size <= MOST_BYTES else None


@attrs.frozen(eq=False)
class IndexDataset:
    """The indices of the samples of a data set in place of the samples: a `Dataset` of one column, int32."""

    dataset: ArrayDataset

    uniform = separable = True

    def __len__(self) -> int:
        return len(self.dataset)

    def take(self, indices: npt.NDArray[np.int64]) -> Sides:
        """See `Dataset`."""
        return {NUMBERS: indices.astype(np.int32)}, {}, {}

    def fetch(self, requests: Iterable[Visits]) -> Generator[Rows, None, None]:
        """See `Dataset`."""
        for visits in requests:
            inputs, targets, _ = self.take(visits.indices)
            yield Rows(inputs=inputs, targets=targets)

    def specs(self) -> Specs:
        """See `Dataset`."""
        return {NUMBERS: ColumnSpec(shape=(), dtype="int32")}, {}, {}

    def known(self) -> ArrayDataset:
        """See `Dataset`."""
        return self.dataset

    def lengths(self) -> npt.NDArray[np.int64]:
        """See `Dataset`."""
        return self.dataset.lengths()
