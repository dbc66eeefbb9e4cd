"""Logging of a run: messages from all loggers and from `warnings`, to the terminal and to `train.log`."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

from aipcore.errors import UsageError
from aipcore.params.names import escaped
from aipcore.params.secret import redacted
from aipcore.streams import LineFile

logger = logging.getLogger("aipcore.training")

LEVELS = ("debug", "info", "warning", "error", "critical")

LIBRARIES = (
    "PIL", "absl", "alembic", "asyncio", "botocore", "filelock", "fsspec", "git", "grain", "h5py", "httpcore", "httpx",
    "jax", "matplotlib", "numba", "tensorflow", "urllib3",
)  # fmt: skip
"""Loggers of verbose libraries. They log from level warning on, unless the program sets their level."""


def log_level() -> int:
    """Return the log level from `AIP_LOG_LEVEL`; info if unset.

    Raises:
        UsageError: the value is not a log level.
    """
    text = os.environ.get("AIP_LOG_LEVEL", "info").strip().lower()
    if text not in LEVELS:
        raise UsageError(
            f"AIP_LOG_LEVEL is {text!r}, which is not a log level. Set it to one of {', '.join(LEVELS)}, or unset it."
        )
    return int(getattr(logging, text.upper()))


class _Formatter(logging.Formatter):
    """Log formatter that redacts passwords and escapes control characters in names and paths."""

    def format(self, record: logging.LogRecord) -> str:
        return escaped(redacted(super().format(with_origin(record))))


def with_origin(record: logging.LogRecord, *, level: bool = False) -> logging.LogRecord:
    """Return a record whose message begins with its logger's name, except for aip's own loggers.

    Args:
        record: a record of any logger.
        level: if True, the level precedes the name. aip's own loggers omit the level info.
    """
    own = record.name.partition(".")[0] in ("aipcore", "aip_plugins")
    # A warning has a file and a line, and the root logger has no useful name.
    name = "" if own or record.name in ("py.warnings", "root") else f"{record.name}: "
    shown = f"{record.levelname.lower()}: " if level and not (own and record.levelno == logging.INFO) else ""
    if not name and not shown:
        return record
    made = copy(record)
    made.msg, made.args = f"{shown}{name}{record.getMessage()}", None
    return made


class _LogFile(logging.StreamHandler[LineFile]):
    """A log file that tolerates a full disk: the run continues, and one message reports it."""

    def __init__(self, path: Path) -> None:
        super().__init__(LineFile(path, "a", self._cannot_write))
        self._path = path

    def _cannot_write(self, error: OSError) -> None:
        logger.warning("%s cannot be written (%s). The run continues without it.", self._path, error.strerror)

    def close(self) -> None:
        self.stream.close()
        super().close()


class RunLog:
    """The root logger's handlers for a run: one for the terminal, and one for a file that is set later."""

    def __init__(self, handler: logging.Handler, *, file_follows: bool) -> None:
        self._early = MemoryHandler(sys.maxsize, flushLevel=sys.maxsize, flushOnClose=False)
        self._handlers = [handler, self._early] if file_follows else [handler]
        for each in self._handlers:
            self._add(each)

    def write_to(self, path: Path) -> None:
        """Append all messages since the start of the run, and all later ones, to a file."""
        file = _LogFile(path)
        file.setFormatter(_Formatter("%(asctime)s %(levelname)-7s %(message)s"))
        self._early.setTarget(file)
        self._early.flush()
        self._handlers.append(file)
        self._add(file)
        logging.getLogger().removeHandler(self._early)

    def close(self) -> None:
        """Remove the handlers from the root logger."""
        for each in self._handlers:
            logging.getLogger().removeHandler(each)
            each.close()

    def _add(self, handler: logging.Handler) -> None:
        handler.setLevel(max(log_level(), handler.level))
        logging.getLogger().addHandler(handler)


@contextmanager
def logging_to(handler: logging.Handler, *, file_follows: bool = False) -> Iterator[RunLog]:
    """Send all messages from `logging` and `warnings` to `handler` inside the context.

    The handler is attached to the root logger, at the level of `AIP_LOG_LEVEL`. Other terminal handlers are disabled
    inside the context, to avoid duplicate lines. The previous logging setup is restored at the end.

    Args:
        handler: handler that prints messages.
        file_follows: if True, keep messages for `RunLog.write_to`.

    Yields:
        the log, which can also write to a file.
    """
    with _terminal_handlers_off(), captured_messages(log_level()):
        log = RunLog(handler, file_follows=file_follows)
        try:
            yield log
        finally:
            log.close()


@contextmanager
def captured_messages(level: int) -> Iterator[None]:
    """Let messages of `level` pass all loggers that have no level, and turn warnings into log messages."""
    root = logging.getLogger()
    before = root.level
    # In a notebook, TensorFlow itself sets its level to info.
    unset = (logging.NOTSET, logging.INFO) if hasattr(sys, "ps1") else (logging.NOTSET,)
    quiet = {logger: logger.level for logger in map(logging.getLogger, LIBRARIES) if logger.level in unset}
    shown = warnings.showwarning

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
    ) -> None:
        if file is not None:
            shown(message, category, filename, lineno, file, line)
        else:
            logging.getLogger("py.warnings").warning("%s:%s: %s: %s", filename, lineno, category.__name__, message)

    root.setLevel(level)
    for logger in quiet:
        logger.setLevel(max(level, logging.WARNING))
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown
        for logger, own in quiet.items():
            if logger.level == max(level, logging.WARNING):
                logger.setLevel(own)
        root.setLevel(before)


@contextmanager
def _terminal_handlers_off() -> Iterator[None]:
    streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    root = logging.getLogger()
    loggers = [root, *(each for each in root.manager.loggerDict.values() if isinstance(each, logging.Logger))]
    found = [
        (logger, handler)
        for logger in loggers
        if _reaches_root(logger)
        for handler in logger.handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream in streams
    ]
    for logger, handler in found:
        logger.removeHandler(handler)
    try:
        yield
    finally:
        for logger, handler in found:
            logger.addHandler(handler)


def _reaches_root(logger: logging.Logger) -> bool:
    above: logging.Logger | None = logger
    while above is not None and above.parent is not None:
        if not above.propagate:
            return False
        above = above.parent
    return True
