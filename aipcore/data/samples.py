"""What a scenario yields."""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen(kw_only=True, eq=False)
class Sample:
    """One sample.

    Attributes:
        inputs: what the model reads: one array, or a mapping from input name to array, without a batch axis.
        targets: what the losses and metrics compare the outputs with; likewise.
        meta: anything else an evaluator needs (a file name, say); never seen by the model.
    """

    inputs: Any
    targets: Any = None
    meta: Any = None


@attrs.frozen(kw_only=True, eq=False)
class SampleBatch:
    """Several samples of one shape, side by side.

    Attributes:
        inputs: as `Sample.inputs`, with an axis in front that counts the samples.
        targets: likewise.
    """

    inputs: Any
    targets: Any = None
