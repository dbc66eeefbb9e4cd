"""Parameters of the schedules."""

from aipcore.plugin import ScheduleParams, at_least, field, params


@params
class NumberParams(ScheduleParams):
    """A rate."""


@params
class ChoosyParams(ScheduleParams):
    """A rate."""

    warmup_epochs: float = field(1.0, help="Not used.", check=at_least(0))


@params
class DoubleParams(ScheduleParams):
    """A rate."""


@params
class CountingParams(ScheduleParams):
    """A rate."""


@params
class OverflowingParams(ScheduleParams):
    """A rate."""


@params
class FallingParams(ScheduleParams):
    """A rate."""


@params
class EagerParams(ScheduleParams):
    """A rate."""


@params
class StubbornParams(ScheduleParams):
    """A rate."""
