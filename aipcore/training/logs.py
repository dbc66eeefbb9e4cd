"""Where aip's log messages go: the terminal and the run's `train.log`. The root logger is never touched."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from aipcore.errors import UsageError
from aipcore.files import no_follow
from aipcore.params.names import escaped
from aipcore.params.secret import redacted

LEVELS = ("debug", "info", "warning", "error", "critical")


def log_level() -> int:
    """The level that `AIP_LOG_LEVEL` asks for; info if unset.

    Raises:
        UsageError: it is no level.
    """
    text = os.environ.get("AIP_LOG_LEVEL", "info").strip().lower()
    if text not in LEVELS:
        raise UsageError(f"AIP_LOG_LEVEL is {text!r}: set it to one of {', '.join(LEVELS)}, or unset it.")
    return int(getattr(logging, text.upper()))


class _Formatter(logging.Formatter):
    """The form of a line, without passwords, and with control characters of names and paths written out."""

    def format(self, record: logging.LogRecord) -> str:
        return escaped(redacted(super().format(record)))


class _LogFile(logging.FileHandler):
    """A log file that is not written through a link."""

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, self.mode, encoding=self.encoding, errors=self.errors, opener=no_follow)  # type: ignore[return-value]


@contextmanager
def logging_to(handler: logging.Handler, file: Path | None) -> Iterator[None]:
    """Sends what the `aipcore` loggers say to `handler` and to `file`, for as long as the context lasts."""
    logger = logging.getLogger("aipcore")
    handlers = [handler]
    if file is not None:
        to_file = _LogFile(file, encoding="utf-8")
        to_file.setFormatter(_Formatter("%(asctime)s %(levelname)-7s %(message)s"))
        handlers.append(to_file)
    before = logger.level, logger.propagate
    logger.setLevel(log_level())
    logger.propagate = False
    for each in handlers:
        logger.addHandler(each)
    try:
        yield
    finally:
        for each in handlers:
            logger.removeHandler(each)
            each.close()
        logger.level, logger.propagate = before
