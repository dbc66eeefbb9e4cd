"""Parameters of the callbacks."""

from aipcore.plugin import CallbackParams, at_least, field, params


@params
class BuildsParams(CallbackParams):
    """Of one fault."""


@params
class BuildsAtItsLimitsParams(CallbackParams):
    """Of one fault."""

    every: int = field(1, help="Not used.", check=at_least(0))


@params
class RunsInTrainingParams(CallbackParams):
    """Of one fault."""


@params
class KeepsTheOrderOfHooksParams(CallbackParams):
    """Of one fault."""


@params
class ChangesNothingParams(CallbackParams):
    """Of one fault."""


@params
class KeepsItsStateParams(CallbackParams):
    """Of one fault."""


@params
class GoesOnWhenResumedParams(CallbackParams):
    """Of one fault."""


@params
class WritesIntoItsFolderParams(CallbackParams):
    """Of one fault."""
