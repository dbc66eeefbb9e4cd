"""Folds in parallel processes: each trains one run, and saves its state if it is stopped or the parent ends."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from aipcore.errors import TrainingError
from aipcore.hooks.manager import get_plugin_manager

OUTPUT = "output.log"
"""The file with the output of a fold's process, in the folder of the fold."""

HEAD = 8
"""The bytes before a request, with its length."""

POLL = 0.1
"""Seconds between two looks at the processes."""


class FoldProcesses:
    """Some processes, each of which trains one fold at a time.

    Args:
        count: the most processes at the same time.
        tell: shows a line to the user.
    """

    def __init__(self, count: int, tell: Callable[[str], None]) -> None:
        self._count = count
        self._tell = tell
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._received: signal.Signals | None = None

    def run(self, requests: Mapping[int, Mapping[str, Any]]) -> int | None:
        """Train folds, and return the number of the signal that interrupted them, or None.

        The first SIGINT or SIGTERM is passed to all processes, which save their state. A second one ends them.

        Args:
            requests: the request of each fold; see `main`.

        Raises:
            TrainingError: a process failed. The others have ended.
        """
        previous: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread():
            previous = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        waiting, failed = dict(requests), ""
        try:
            while self._running or (waiting and not failed and self._received is None):
                while waiting and len(self._running) < self._count and not failed and self._received is None:
                    fold = next(iter(waiting))
                    self._start(fold, waiting.pop(fold))
                time.sleep(POLL)
                for fold, process in list(self._running.items()):
                    if (code := process.poll()) is not None:
                        del self._running[fold]
                        assert process.stdin is not None
                        with suppress(BrokenPipeError):
                            process.stdin.close()
                        failed = failed or self._ended(fold, code, requests[fold]["folder"])
        finally:
            for process in self._running.values():
                process.kill()
            for number, handler in previous.items():
                signal.signal(number, handler)
        if failed:
            raise TrainingError(failed)
        return self._received

    def _start(self, fold: int, request: Mapping[str, Any]) -> None:
        folder: Path = request["folder"]
        folder.mkdir(exist_ok=True)
        switches = get_plugin_manager().switches
        content = {**request, "disabled": switches.disabled, "third_party": switches.third_party}
        with (folder / OUTPUT).open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "aipcore.training.folds.worker"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._running[fold] = process
        assert process.stdin is not None
        data = pickle.dumps(content)
        process.stdin.write(len(data).to_bytes(HEAD, "big") + data)
        process.stdin.flush()
        self._tell(f"Fold {fold} trains in process {process.pid}; its output is in {folder / OUTPUT}")

    def _ended(self, fold: int, code: int, folder: Path) -> str:
        """Show the end of a process. Return the sentence of its failure, or an empty text."""
        if code == 0:
            self._tell(f"Fold {fold} has ended.")
            return ""
        if self._received is not None:
            return ""
        lines = (folder / OUTPUT).read_text(encoding="utf-8", errors="replace").splitlines()
        reason = next((line for line in reversed(lines) if line.startswith("error: ")), f"exit code {code}")
        return f"Fold {fold} failed ({reason.removeprefix('error: ').removesuffix('.')}). See {folder / OUTPUT}."

    def _handle(self, number: int, frame: object) -> None:
        del frame
        if self._received is not None:
            raise KeyboardInterrupt
        self._received = signal.Signals(number)
        self._tell("Stopping and saving all folds. Press Ctrl-C again to stop without saving.")
        for process in self._running.values():
            process.send_signal(number)


def follow_parent() -> Any:
    """Return the request of the parent process, and end the run when the parent ends."""
    # Python's own standard input cannot be read by a thread when the process ends.
    pipe = os.dup(0)
    with os.fdopen(os.dup(pipe), "rb", buffering=0) as given:
        size = int.from_bytes(given.read(HEAD), "big")
        content = b""
        while len(content) < size and (more := given.read(size - len(content))):
            content += more

    def wait() -> None:
        os.read(pipe, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="aip-folds", daemon=True).start()
    # Only the parent, which has the same user and version, writes to this pipe.
    return pickle.loads(content)
