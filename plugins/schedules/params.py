"""Parameters of the shipped learning-rate schedules.

In the equations e is the time in epochs, a fraction within an epoch: updates done / updates per epoch, less
`offset_epochs`, and not less than 0. E is the number of epochs of the run, less `offset_epochs`.
"""

from __future__ import annotations

from aipcore.hooks.kinds import ScheduleParams
from aipcore.params import above, at_least, between, field, params


@params
class ConstantParams(ScheduleParams):
    """rate(e) = lr."""


@params
class ExponentialDecayParams(ScheduleParams):
    """rate(e) = lr * max(decay^max(0, e - constant_epochs), min_fraction)."""

    decay: float = field(0.99, help="What the rate is multiplied by in one epoch.", check=between(1e-6, 1.0))
    constant_epochs: float = field(0.0, help="Epochs at the full rate before it decays.", check=at_least(0))
    min_fraction: float = field(0.0, help="The rate never falls below this fraction of lr.", check=between(0.0, 1.0))
    staircase: bool = field(False, help="Lower the rate once an epoch instead of after every update.")


@params
class CosineDecayParams(ScheduleParams):
    """rate(e) = lr * (m + (1 - m) * (1 + cos(pi * min(1, e / D))) / 2), with m = min_fraction.

    Reference: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017, without restarts.
    """

    min_fraction: float = field(0.0, help="The rate ends at this fraction of lr.", check=between(0.0, 1.0))
    decay_epochs: float | None = field(
        None, help="Epochs until the rate has fallen; by default to the end of the run.", check=above(0)
    )


@params
class WarmupCosineDecayParams(CosineDecayParams):
    """Linear from warmup_fraction * lr to lr over warmup_epochs, then CosineDecay over what is left of the run."""

    warmup_epochs: float = field(1.0, help="Epochs until the full rate is reached.", check=at_least(0))
    warmup_fraction: float = field(0.0, help="The rate begins at this fraction of lr.", check=between(0.0, 1.0))


@params
class WarmupConstantCosineDecayParams(WarmupCosineDecayParams):
    """As WarmupCosineDecay, with constant_epochs at the full rate between rise and fall."""

    constant_epochs: float = field(1.0, help="Epochs at the full rate before it falls.", check=at_least(0))


@params
class WarmupDecayParams(ScheduleParams):
    """rate(e) = lr * min(e / w, sqrt(w / e)), with w = warmup_epochs: linear to lr, then an inverse square root.

    Reference: Vaswani et al., "Attention Is All You Need", 2017, section 5.3, scaled so that the peak is lr.
    """

    warmup_epochs: float = field(1.0, help="Epochs until the full rate is reached.", check=above(0))
