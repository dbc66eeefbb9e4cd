"""What samples on demand start from: the source itself, kept samples, or those that generating processors make."""

from __future__ import annotations

import threading
from typing import Any, Protocol

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.chain import Chain
from aipcore.data.dataset import ArrayDataset
from aipcore.data.samples import Sample
from aipcore.data.source import DatasetSource, Source
from aipcore.data.stack import Stack, stack
from aipcore.errors import DataError
from aipcore.params.names import count


class Base(Protocol):
    """Samples behind the generating processors."""

    def __len__(self) -> int: ...

    def get(self, index: int) -> tuple[Sample, int]:
        """A sample, and the index in the source of the one that it was made of.

        Raises:
            SampleError: it cannot be read or made.
        """


@attrs.frozen(eq=False)
class Plain:
    """The samples of the source."""

    source: Source

    def __len__(self) -> int:
        return len(self.source)

    def get(self, index: int) -> tuple[Sample, int]:
        """See `Base`."""
        return self.source[index], index


@attrs.frozen(eq=False)
class Kept:
    """Samples in memory, processed as far as the same comes out each time."""

    samples: list[Sample]
    source_indices: list[int]

    def __len__(self) -> int:
        return len(self.samples)

    def __reduce__(self) -> tuple[Any, ...]:
        # Few large arrays are quickly sent to workers, and shared by them; many small ones are not.
        return Stacked, (stack(self.samples), np.asarray(self.source_indices))

    def get(self, index: int) -> tuple[Sample, int]:
        """See `Base`."""
        return self.samples[index], self.source_indices[index]


@attrs.frozen(eq=False)
class Arrays:
    """Kept samples of one shape, side by side."""

    dataset: ArrayDataset
    source_indices: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.dataset)

    def get(self, index: int) -> tuple[Sample, int]:
        """See `Base`."""
        return DatasetSource(self.dataset)[index], int(self.source_indices[index])


@attrs.frozen(eq=False)
class Stacked:
    """Kept samples in a worker."""

    samples: Stack
    source_indices: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.source_indices)

    def get(self, index: int) -> tuple[Sample, int]:
        """See `Base`."""
        return self.samples[index], int(self.source_indices[index])


class Generated:
    """Samples that generating processors make again whenever one is needed.

    Args:
        source: where they come from.
        chain: the processors.
        counts: how many samples come of each sample of the source, shape [source].
    """

    def __init__(self, source: Source, chain: Chain, counts: npt.NDArray[np.int64]) -> None:
        self._source = source
        self._chain = chain
        self._ends = np.cumsum(counts)
        self._counts = counts
        # Neighbours come of the same sample of the source; in shuffled order they rarely meet.
        self._local = threading.local()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __reduce__(self) -> tuple[Any, ...]:
        return Generated, (self._source, self._chain, self._counts)

    def get(self, index: int) -> tuple[Sample, int]:
        """See `Base`."""
        source_index = int(np.searchsorted(self._ends, index, side="right"))
        last, made = getattr(self._local, "last", (-1, []))
        if last != source_index:
            made = self._chain.expand(self._source[source_index], source_index)
            self._local.last = source_index, made
        if len(made) != self._counts[source_index]:
            raise DataError(
                f"Sample {source_index} of {self._chain.origin} gave {count(len(made), 'sample')}, but "
                f"{self._counts[source_index]} when they were counted: generating processors must always make the same."
            )
        first = self._ends[source_index] - self._counts[source_index]
        return made[index - int(first)], source_index
