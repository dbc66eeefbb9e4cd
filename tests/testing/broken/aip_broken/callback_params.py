"""Parameters of the callbacks."""

from aipcore.plugin import CallbackParams, at_least, field, params


@params
class BuildsParams(CallbackParams):
    """Parameters of a callback with one fault."""


@params
class BuildsAtItsLimitsParams(CallbackParams):
    """Parameters of a callback with one fault."""

    every: int = field(1, help="Not used.", check=at_least(0))


@params
class RunsInTrainingParams(CallbackParams):
    """Parameters of a callback with one fault."""


@params
class KeepsTheOrderOfHooksParams(CallbackParams):
    """Parameters of a callback with one fault."""


@params
class ChangesNothingParams(CallbackParams):
    """Parameters of a callback with one fault."""


@params
class KeepsItsStateParams(CallbackParams):
    """Parameters of a callback with one fault."""


@params
class ResumesBitIdenticallyParams(CallbackParams):
    """Parameters of a callback with one fault."""


@params
class WritesIntoItsFolderParams(CallbackParams):
    """Parameters of a callback with one fault."""
