"""What a scenario yields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
