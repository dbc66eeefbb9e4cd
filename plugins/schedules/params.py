"""Parameters of the built-in learning-rate schedules.

In the equations, e is the time in epochs, including fractions: updates done / updates per epoch, minus
`offset_epochs`, and at least 0. A positive offset therefore delays a schedule, which keeps its rate at e = 0 until
then; a negative one skips its first epochs. A schedule as long as the run ends with the run, whatever the offset. The
core applies the offset, so no schedule contains it.
"""

from __future__ import annotations

from aipcore.hooks.records import ScheduleParams
from aipcore.params import above, at_least, between, field, params


@params
class ConstantParams(ScheduleParams):
    """rate(e) = lr."""


@params
class ExponentialDecayParams(ScheduleParams):
    """rate(e) = lr * max(decay^(max(0, e - constant_epochs) / decay_epochs), min_fraction).

    With staircase, the exponent is rounded down: the rate is multiplied by decay once every decay_epochs epochs.
    """

    decay: float = field(0.99, help="Factor applied to the rate every decay_epochs epochs.", check=between(1e-6, 1.0))
    decay_epochs: float = field(1.0, help="Epochs after which the rate is multiplied by decay.", check=above(0))
    constant_epochs: float = field(0.0, help="Epochs at the full rate before the decay.", check=at_least(0))
    min_fraction: float = field(0.0, help="Lowest rate, as a fraction of lr.", check=between(0.0, 1.0))
    staircase: bool = field(
        False, help="Decay in steps, once every decay_epochs epochs. Otherwise the rate decays after every update."
    )


@params
class CosineDecayParams(ScheduleParams):
    """rate(e) = lr * (m + (1 - m) * (1 + cos(pi * min(1, e / D))) / 2), with m = min_fraction.

    Reference: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017, without restarts.
    """

    min_fraction: float = field(0.0, help="Final rate, as a fraction of lr.", check=between(0.0, 1.0))
    decay_epochs: float | None = field(
        None, help="Length of the decay in epochs. none decays until the end of the run.", check=above(0)
    )


@params
class WarmupCosineDecayParams(CosineDecayParams):
    """Linear warmup from warmup_fraction * lr to lr over warmup_epochs, then CosineDecay for the rest of the run."""

    warmup_epochs: float = field(1.0, help="Length of the warmup in epochs.", check=at_least(0))
    warmup_fraction: float = field(0.0, help="Initial rate, as a fraction of lr.", check=between(0.0, 1.0))


@params
class WarmupConstantCosineDecayParams(WarmupCosineDecayParams):
    """WarmupCosineDecay with constant_epochs at the full rate between warmup and decay."""

    constant_epochs: float = field(1.0, help="Epochs at the full rate before the decay.", check=at_least(0))


@params
class WarmupDecayParams(ScheduleParams):
    """rate(e) = lr * (f + (1 - f) * e / w) for e < w, then lr * sqrt(w / e): linear to lr, then an inverse square root.

    w is warmup_epochs, f is warmup_fraction.

    Reference: Vaswani et al., "Attention Is All You Need", 2017, section 5.3, scaled so that the peak is lr.
    """

    warmup_epochs: float = field(1.0, help="Length of the warmup in epochs.", check=above(0))
    warmup_fraction: float = field(0.0, help="Initial rate, as a fraction of lr.", check=between(0.0, 1.0))
