"""The errors aip raises on purpose: one sentence each, saying what was given, what is allowed and what to do."""


class AipError(Exception):
    """Root of every error that aip raises on purpose; the command line prints it without a traceback.

    The message is one sentence for the user. `exit_code` is what `aip` returns to the shell.
    """

    exit_code = 1


class UsageError(AipError):
    """The user gave something that is not allowed; nothing was computed or written."""

    exit_code = 2


class ParamsError(UsageError):
    """A parameter is unknown, misplaced, missing, or has a value that is not allowed."""


class PluginError(UsageError):
    """A plugin is unknown, broken, disabled, or registered twice."""


class ScenarioError(UsageError):
    """A scenario could not be found, loaded, or used as written."""


class DataError(AipError):
    """The data set is empty, or a sample does not fit the scenario."""


class TrainingError(AipError):
    """Training cannot go on, and the message says why and what was saved."""


class FormatError(TrainingError):
    """A model cannot be written in a format, or what was written does not answer like it; no such file is left."""


class Terminated(KeyboardInterrupt):
    """A second SIGTERM: it ends whatever Ctrl-C ends, and only the exit code is another."""
