"""Samples, what a scenario yields, and the shapes and dtypes of their columns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import attrs


@attrs.frozen(kw_only=True, eq=False)
class Sample:
    """One sample.

    Attributes:
        inputs: what the model reads: one array, or a mapping from input name to array, without a batch axis.
        targets: what the losses and metrics compare the outputs with; likewise.
        meta: anything else an evaluator needs (a file name, say); never seen by the model.
        weight: how much the sample counts in the losses and weighted metrics, as Keras' `sample_weight`: None (1), a
            number, an array with one weight per position, or a mapping from output name to these. A weight without a
            name applies to every output. Either all samples have weights of the same names, or none has.
    """

    inputs: Any
    targets: Any = None
    meta: Any = None
    weight: Any = None


class Samples(Protocol):
    """A sequence of samples, as a list of them is; it may make a sample whenever it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


@attrs.frozen(kw_only=True, eq=False)
class SampleBatch:
    """Several samples of one shape, side by side.

    Attributes:
        inputs: as `Sample.inputs`, with an axis in front that counts the samples.
        targets: likewise.
        weight: as `Sample.weight`, likewise.
    """

    inputs: Any
    targets: Any = None
    weight: Any = None


def present(weight: Any) -> Any:
    """Return a weight without the outputs that have none, or None if nothing is left."""
    if isinstance(weight, Mapping):
        return {name: value for name, value in weight.items() if value is not None} or None
    return weight


@attrs.frozen(kw_only=True)
class ColumnSpec:
    """Shape and type of one column: `shape` is that of one sample, None where it varies; `dtype` is NumPy's name."""

    shape: tuple[int | None, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes of one sample; an axis that varies counts once."""
        import numpy as np

        return math.prod(size or 1 for size in self.shape) * np.dtype(self.dtype).itemsize


SIDES = ("inputs", "targets", "weights")
"""The three sides of a data set, in their order everywhere."""

Specs = tuple[Mapping[str, ColumnSpec], Mapping[str, ColumnSpec], Mapping[str, ColumnSpec]]
"""The specs of the inputs, the targets and the weights, each by name; a bare array has the name ""."""

DeclaredSpecs = tuple[Mapping[str, ColumnSpec], Mapping[str, ColumnSpec]] | Specs
"""Specs that an author declares; the weights may be left out, and are then as the samples have them."""
