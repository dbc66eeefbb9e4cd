"""The sweep's side of a trial's process: starts it, hears what happens, answers, and tells how it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

LOG = "output.log"
"""What a trial prints, in its folder."""

LEAVING = 60.0
"""Seconds that a trial's process has to end once its run has."""

STOPPED_BY = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Notes SIGINT and SIGTERM and hands them to the running trial, which saves itself; a second one ends it all.

    Attributes:
        received: the first signal, or None.
    """

    def __init__(self, notify: Callable[[str], None]) -> None:
        self.received: signal.Signals | None = None
        self._notify = notify
        self._process: subprocess.Popen[str] | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        for number in STOPPED_BY:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def watch(self, process: subprocess.Popen[str] | None) -> None:
        """The process that signals are handed to from now on."""
        self._process = process
        if process is not None and self.received is not None:
            _send(process, self.received)

    def _handle(self, number: int, frame: object) -> None:
        del frame
        if self.received is not None:
            if self._process is not None:
                kill(self._process)
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        if self._process is not None:
            self._notify("Stopping: the trial saves its state first; press Ctrl-C again to stop at once.")
            _send(self._process, self.received)


class TrialProcess:
    """One trial's process.

    Args:
        request: what the worker is told to do.
        log: the file that takes all it prints.
        cwd: its working folder.
        stop: what hands signals on to it.
    """

    def __init__(self, request: Mapping[str, Any], log: Path, cwd: str, stop: Stop) -> None:
        with log.open("a", encoding="utf-8") as output:
            # Without the working folder on the path, as `aip` itself is; in a session of its own, so that Ctrl-C
            # reaches it once, by way of `stop`.
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "aip_plugins.commands.sweep.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                encoding="utf-8",
                cwd=cwd,
                start_new_session=True,
            )
        self._stop = stop
        stop.watch(self.process)
        self.say(request)

    def events(self) -> Iterator[dict[str, Any]]:
        """What the worker says, up to its end."""
        assert self.process.stdout is not None
        for text in self.process.stdout:
            event = json.loads(text)
            yield event
            if event["event"] in ("end", "failed"):
                return

    def say(self, content: Any) -> None:
        """Tells the worker, unless it is gone."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(content) + "\n")
            self.process.stdin.flush()

    def ended(self) -> str:
        """Waits for the end; how it ended, in words."""
        code = self.process.wait()
        if code >= 0:
            return f"ended with exit code {code}"
        name = signal.Signals(-code).name
        return f"killed by {name}, as happens when the memory is used up" if name == "SIGKILL" else f"ended by {name}"

    def leave(self) -> None:
        """Lets a process end that has said its last word; callbacks may still have something to send."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(LEAVING)

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        kill(self.process)
        self.process.wait()
        self._stop.watch(None)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


def kill(process: subprocess.Popen[str]) -> None:
    """Ends a process and all that it started, without waiting: whoever is interrupted may be waiting already."""
    if process.returncode is not None:
        return
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def _send(process: subprocess.Popen[str], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)


def tail(log: Path, lines: int = 1) -> Sequence[str]:
    """The last lines of a log."""
    try:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    except OSError:
        return []
