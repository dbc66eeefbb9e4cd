"""Parameters of the exporters."""

from aipcore.plugin import ExporterParams, at_least, field, params


@params
class BuildsParams(ExporterParams):
    """Of one fault."""


@params
class BuildsAtItsLimitsParams(ExporterParams):
    """Of one fault."""

    every: int = field(1, help="Not used.", check=at_least(0))


@params
class WritesIntoItsFolderParams(ExporterParams):
    """Of one fault."""


@params
class ReloadsInAnotherProcessParams(ExporterParams):
    """Of one fault."""


@params
class GivesTheSameNumbersParams(ExporterParams):
    """Of one fault."""


@params
class TakesAnyBatchParams(ExporterParams):
    """Of one fault."""


@params
class WritesCurrentWeightsParams(ExporterParams):
    """Of one fault."""


@params
class TakesSeveralInputsAndOutputsParams(ExporterParams):
    """Of one fault."""


@params
class AFailingWriteLeavesNothingParams(ExporterParams):
    """Of one fault."""
