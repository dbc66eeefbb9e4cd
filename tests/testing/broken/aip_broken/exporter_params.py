"""Parameters of the exporters."""

from aipcore.plugin import ExporterParams, at_least, field, params


@params
class BuildsParams(ExporterParams):
    """Parameters of an exporter with one fault."""


@params
class BuildsAtItsLimitsParams(ExporterParams):
    """Parameters of an exporter with one fault."""

    every: int = field(1, help="Not used.", check=at_least(0))


@params
class WritesIntoItsFolderParams(ExporterParams):
    """Parameters of an exporter with one fault."""


@params
class ReloadsInAnotherProcessParams(ExporterParams):
    """Parameters of an exporter with one fault."""


@params
class GivesTheSameNumbersParams(ExporterParams):
    """Parameters of an exporter with one fault."""


@params
class TakesAnyBatchParams(ExporterParams):
    """Parameters of an exporter with one fault."""


@params
class WritesCurrentWeightsParams(ExporterParams):
    """Parameters of an exporter with one fault."""


@params
class TakesSeveralInputsAndOutputsParams(ExporterParams):
    """Parameters of an exporter with one fault."""


@params
class AFailingWriteLeavesNothingParams(ExporterParams):
    """Parameters of an exporter with one fault."""
