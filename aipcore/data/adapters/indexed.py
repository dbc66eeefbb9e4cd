"""Objects with `__len__` and `__getitem__`, read on demand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from aipcore.data.adapters.elements import Convert, as_sample
from aipcore.data.processing import SampleError, skip_hint
from aipcore.data.sample import Sample
from aipcore.errors import DataError, located_sentence

ENDLESS = 2**48
"""The length from which on an object is endless."""


def is_indexed(data: Any) -> bool:
    """Return True if data is an author's object that is read on demand."""
    plain = isinstance(data, str | bytes | np.ndarray | Mapping | list | tuple)
    return not plain and hasattr(data, "__len__") and hasattr(data, "__getitem__")


def refuse_endless(data: Any, origin: str) -> None:
    """Reject an object that repeats its samples without end, as `repeat()` of grain.

    Raises:
        DataError: it has no end.
    """
    if len(data) >= ENDLESS:
        raise DataError(
            f"{origin} has no end, but is read by index. Leave out repeat(), or return data.to_iter_dataset() and set "
            "--trainer.samples_per_epoch."
        )


@attrs.frozen(eq=False)
class IndexedSamples:
    """The samples of an author's object, which may read a file on each access.

    Attributes:
        given: the object.
        origin: the name of the object in errors.
        convert: the author's conversion of an entry, or None.
    """

    given: Any
    origin: str
    convert: Convert | None = None

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, index: int) -> Sample:
        try:
            sample = self.given[index]
        except Exception as error:
            raise SampleError(
                f"Sample {index} of {self.origin} cannot be read: {located_sentence(error)}. "
                f"{skip_hint(error, 'Fix the sample')}"
            ) from error
        return as_sample(sample, index, self.origin, self.convert)


@attrs.frozen(eq=False)
class FirstSamples:
    """The first samples of an author's object."""

    given: Any
    count: int

    def __len__(self) -> int:
        return min(self.count, len(self.given))

    def __getitem__(self, index: int) -> Any:
        return self.given[index]
