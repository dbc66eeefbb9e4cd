"""Samples, and the shapes and dtypes of their columns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import attrs


@attrs.frozen(kw_only=True, eq=False)
class Sample:
    """One sample.

    Attributes:
        inputs: the model's inputs: one array, or a mapping from input name to array, without a batch axis.
        targets: the targets of losses and metrics, in the same form.
        meta: other data for evaluators and post-processors, such as a file name; never passed to the model.
        weight: the weight of the sample in the losses and weighted metrics, as Keras' `sample_weight`: None (1), a
            number, an array with one weight per position, or a mapping from output name to these. An unnamed weight
            applies to every output. Either all samples have weights of the same names, or none has.
    """

    inputs: Any
    targets: Any = None
    meta: Any = None
    weight: Any = None


class Samples(Protocol):
    """A sequence of samples, such as a list. A sample may be made on access."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


@attrs.frozen(kw_only=True, eq=False)
class SampleBatch:
    """Several samples of one shape, stacked.

    Attributes:
        inputs: as `Sample.inputs`, with a leading axis for the samples.
        targets: as `Sample.targets`, likewise.
        weight: as `Sample.weight`, likewise.
    """

    inputs: Any
    targets: Any = None
    weight: Any = None


def present(weight: Any) -> Any:
    """Return a weight without outputs whose weight is None, or None if no weight is left."""
    if isinstance(weight, Mapping):
        return {name: value for name, value in weight.items() if value is not None} or None
    return weight


STRING_BYTES = 1000
"""Assumed size of a string, whose length is unknown."""


@attrs.frozen(kw_only=True)
class ColumnSpec:
    """Shape and dtype of one column.

    Attributes:
        shape: the shape of one sample, with None where it varies.
        dtype: NumPy's name of the dtype, or "string".
    """

    shape: tuple[int | None, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes of one sample; an axis of varying length counts once, a string as `STRING_BYTES`."""
        import numpy as np

        size = STRING_BYTES if self.dtype == "string" else np.dtype(self.dtype).itemsize
        return math.prod(size or 1 for size in self.shape) * size


SIDES = ("inputs", "targets", "weights")
"""The three sides of a dataset, in their fixed order."""

Specs = tuple[Mapping[str, ColumnSpec], Mapping[str, ColumnSpec], Mapping[str, ColumnSpec]]
"""The specs of the inputs, the targets and the weights, each by name; a bare array has the name ""."""

DeclaredSpecs = tuple[Mapping[str, ColumnSpec], Mapping[str, ColumnSpec]] | Specs
"""Specs declared by an author. Weights may be left out; their specs are then taken from the samples."""
