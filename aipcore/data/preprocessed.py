"""Datasets whose inputs are preprocessed batch by batch, on the host."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.dataset import Batch, Columns, Dataset, Fields, MemoryDataset
from aipcore.data.sample import ColumnSpec, Sample, Specs
from aipcore.data.sampler import Indices, Visits
from aipcore.data.streamed import StreamDataset
from aipcore.data.strings import numpy_dtype

PIECE = 1000
"""Samples that are preprocessed together if the results are kept."""

Convert = Callable[[Columns], Columns]
"""Maps the inputs of a batch to the inputs of the model, arrays of shape [batch, ...] by name."""


def stream_of(dataset: Dataset) -> StreamDataset | None:
    """Return the stream that a dataset reads, or None."""
    raw = dataset.raw if isinstance(dataset, PreprocessedDataset) else dataset
    return raw if isinstance(raw, StreamDataset) else None


@attrs.frozen(kw_only=True, eq=False)
class PreprocessedDataset(Dataset):
    """A dataset whose inputs are preprocessed in each epoch, in the thread that reads ahead.

    Attributes:
        raw: the samples before preprocessing.
        convert: the preprocessing.
        inputs: the specs of the preprocessed inputs.
    """

    raw: Dataset
    convert: Convert
    inputs: Mapping[str, ColumnSpec]

    @property
    def uniform(self) -> bool:
        """See `Dataset`."""
        return self.raw.uniform and all(None not in spec.shape for spec in self.inputs.values())

    @property
    def separable(self) -> bool:
        """See `Dataset`."""
        return self.raw.separable and self.uniform

    def __len__(self) -> int:
        return len(self.raw)

    def sample(self, index: int, epoch: int = 0) -> Sample:
        """See `Dataset`."""
        return self._converted(self.raw.batch(np.array([index]), np.array([epoch])))[0]

    def batch(self, indices: Indices, epochs: Indices | None = None) -> Batch:
        """See `Dataset`."""
        batch = self.raw.batch(indices, epochs)
        return attrs.evolve(batch, inputs=self._inputs(batch.inputs))

    def batches(self, requests: Iterable[Visits]) -> Generator[Batch, None, None]:
        """See `Dataset`."""
        with closing(self.raw.batches(requests)) as batches:
            for batch in batches:
                yield attrs.evolve(batch, inputs=self._inputs(batch.inputs))

    def specs(self) -> Specs:
        """See `Dataset`."""
        _, targets, weights = self.raw.specs()
        return self.inputs, targets, weights

    def known(self) -> MemoryDataset:
        """See `Dataset`."""
        known = self.raw.known()
        return self._converted(known.batch(np.arange(min(len(known), PIECE))), known)

    def lengths(self) -> npt.NDArray[np.int64]:
        """See `Dataset`; the lengths before preprocessing."""
        return self.raw.lengths()

    def kept(self, limit: int | None) -> Dataset:
        """Return the preprocessed samples in memory; or this dataset if they are not in memory or need too much.

        Args:
            limit: the most bytes, or None.
        """
        raw = self.raw
        size = len(raw) * sum(spec.nbytes for spec in self.inputs.values())
        if not isinstance(raw, MemoryDataset) or not self.uniform or (limit is not None and size > limit):
            return self
        columns = {
            name: np.empty((len(raw), *(size or 0 for size in spec.shape)), numpy_dtype(spec.dtype))
            for name, spec in self.inputs.items()
        }
        for start in range(0, len(raw), PIECE):
            indices = np.arange(start, min(start + PIECE, len(raw)))
            for name, value in self.batch(indices).inputs.items():
                columns[name][indices] = value
        return self._memory(raw, columns)

    def _inputs(self, inputs: Columns) -> Columns:
        count = len(next(iter(inputs.values())))
        if count:
            return self.convert(inputs)
        return {
            name: np.empty((0, *(size or 0 for size in spec.shape)), numpy_dtype(spec.dtype))
            for name, spec in self.inputs.items()
        }

    def _converted(self, batch: Batch, like: MemoryDataset | None = None) -> MemoryDataset:
        like = like or self.raw.known()
        targets, weights = (
            Fields(columns=dict(columns), bare=side.bare)
            for columns, side in ((batch.targets, like.targets), (batch.weights, like.weights))
        )
        raw = attrs.evolve(like, targets=targets, weights=weights, meta=batch.meta)
        return self._memory(raw, self._inputs(batch.inputs))

    def _memory(self, raw: MemoryDataset, columns: dict[str, Any]) -> MemoryDataset:
        return attrs.evolve(
            raw,
            inputs=Fields(columns=columns, bare="" in columns),
            declared=self.specs(),
            padding=({}, *raw.padding[1:]),
        )
