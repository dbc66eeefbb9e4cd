"""The locks by which several processes share a sweep's folder; a kill takes a process's locks away."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path

from aipcore.errors import UsageError
from aipcore.training.run_folder import LOCK, locked

ASKING = ".asking.lock"
"""In the sweep's folder, held while a process begins the sweep."""

TABLES = ".tables.lock"
"""In the sweep's folder, held while a process reads the trials and writes them to the tables."""

RUNNING = ".trial.lock"
"""In a trial's folder, held by the process that answers for the trial; the trial's own process holds `.lock`."""

PATIENCE = 300.0
"""Seconds to wait for a lock, such as that of a trial whose sweep was killed while it still saves."""


def enter_when_free(stack: ExitStack, folder: Path, name: str = LOCK) -> None:
    """Takes a lock, waiting for whoever has it.

    Raises:
        UsageError: it is not free after five minutes, or the folder is not writable.
    """
    end = time.monotonic() + PATIENCE
    while True:
        try:
            stack.enter_context(locked(folder, name))
        except UsageError:
            if time.monotonic() > end or not os.access(folder, os.W_OK):
                raise
            time.sleep(0.1)
        else:
            return
