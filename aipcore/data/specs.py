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


Specs = tuple[Mapping[str, ColumnSpec], Mapping[str, ColumnSpec]]
"""The specs of the inputs and of the targets, each by name; a bare array has the name ""."""
