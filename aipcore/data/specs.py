"""Shapes and types of samples; light, so that scenarios can declare them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs


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
