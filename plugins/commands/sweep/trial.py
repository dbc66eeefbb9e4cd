"""A trial in its own process: start, answers after each epoch, and outcome."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import attrs

LOG = "output.log"
"""The file with the output of a trial, in its folder."""

LEAVING = 60.0
"""Seconds for a trial's process to exit after its run."""

PRUNED = "Pruned by the sweep: other trials were better at this epoch."

Logs = Mapping[str, float]


class Score:
    """The best epoch of a trial.

    Attributes:
        mode: `min` if small values are better, `max` if large ones are.
        name: the name of the value in the logs of an epoch.
        own: True if the name is the scenario's, which stands for the validation value if there is one.
        value: the best value so far; None if there is none.
        epoch: the epoch of that value, counted from 1.
        logs: all finite values of that epoch.
    """

    def __init__(self, mode: Literal["min", "max"], name: str, *, own: bool = False) -> None:
        self.mode = mode
        self.name = name
        self.own = own
        self.value: float | None = None
        self.epoch: int | None = None
        self.logs: dict[str, float] = {}

    def take(self, history: Sequence[Logs]) -> None:
        """Find the best of all epochs of the trial. Epochs with a non-finite loss are ignored."""
        validated = f"val_{self.name.removeprefix('val_')}"
        if self.own and any(validated in logs for logs in history):
            self.name = validated
        sign = 1 if self.mode == "min" else -1
        finite = [
            (sign * logs[self.name], epoch, logs)
            for epoch, logs in enumerate(history, 1)
            if math.isfinite(logs.get(self.name, math.nan)) and not diverged(epoch, logs)
        ]
        if finite:
            _, self.epoch, logs = min(finite, key=lambda each: each[:2])
            self.value = logs[self.name]
            self.logs = {name: value for name, value in logs.items() if math.isfinite(value)}

    def unknown(self, history: Sequence[Logs], *, final: bool) -> str:
        """Return the reason why the monitored value will never be logged; empty if it is, or may still be.

        Args:
            history: the logs of some epochs.
            final: True if these are all epochs.
        """
        names = {name for logs in history for name in logs}
        # Validation and LAV may run in some of the epochs only.
        late = self.name.startswith(("val_", "lav_")) and not any(name.startswith(self.name[:4]) for name in names)
        if not names or self.name in names or (late and not final):
            return ""
        return f"The value {self.name} is not logged, only {', '.join(sorted(names))}. Choose another --monitor."


def diverged(epoch: int, logs: Logs) -> str:
    """Return the reason why the trial cannot recover; empty if it can."""
    loss = logs.get("loss", 0.0)
    return "" if math.isfinite(loss) else f"the loss is {loss} in epoch {epoch}"


@attrs.frozen
class Outcome:
    """The outcome of a trial.

    Attributes:
        state: `complete`, `pruned`, `failed`, or `interrupted`, to be resumed.
        reason: the reason of a failure.
        fatal: the reason why no other trial can succeed.
    """

    state: str
    reason: str = ""
    fatal: str = ""


class Stop:
    """Passes SIGINT and SIGTERM to the running trial, which saves its state. A second signal ends it immediately.

    Attributes:
        received: the first signal, or None.
    """

    def __init__(self, notify: Callable[[str], None]) -> None:
        self.received: signal.Signals | None = None
        self._notify = notify
        self._process: subprocess.Popen[str] | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def watch(self, process: subprocess.Popen[str] | None) -> None:
        """Pass signals to this process from now on."""
        self._process = process
        if process is not None and self.received is not None:
            process.send_signal(self.received)

    def _handle(self, number: int, frame: object) -> None:
        del frame
        if self.received is not None:
            if self._process is not None:
                _kill(self._process)
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        if self._process is not None:
            self._notify("Stopping and saving the trial. Press Ctrl-C again to stop without saving.")
            self._process.send_signal(number)


class TrialProcess:
    """The process of one trial.

    Args:
        request: the request for the worker.
        folder: the folder of the trial, whose log receives the output.
        cwd: the working folder of the process.
        stop: passes signals to the process.
    """

    def __init__(self, request: Mapping[str, Any], folder: Path, cwd: str, stop: Stop) -> None:
        self._log, self._stop = folder / LOG, stop
        with self._log.open("a", encoding="utf-8") as output:
            # Started as `aip` itself, without the working folder on the path; in its own session, so that Ctrl-C
            # reaches it once, through `stop`.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "aip_plugins.commands.sweep.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                encoding="utf-8",
                cwd=cwd,
                start_new_session=True,
            )
        stop.watch(self._process)
        self._send(request)

    def follow(self, score: Score, report: Callable[[int, int, Logs], bool]) -> Outcome:
        """Exchange messages with the trial until it ends.

        Args:
            score: receives the epochs of the trial.
            report: receives the epoch, the number of epochs and the logs; returns True to prune the trial.
        """
        assert self._process.stdout is not None
        pruned = bad = failed = ""
        for text in self._process.stdout:
            event = json.loads(text)
            match event["event"]:
                case "epoch":
                    epoch, logs = event["epoch"], event["logs"]
                    if score.own:
                        score.name = event["monitor"]
                    bad = diverged(epoch, logs)
                    if report(epoch, event["epochs"], logs):
                        pruned = PRUNED
                    self._send(score.unknown([logs], final=False) or bad or pruned)
                case "failed":
                    failed = event["reason"]
                    break
                case "end":
                    self._leave()
                    return self._judge(event, score, pruned=pruned, bad=bad)
        self._leave()
        if self._stop.received is not None:
            return Outcome("interrupted")
        return Outcome("failed", failed or self._end())

    def _judge(self, event: Mapping[str, Any], score: Score, *, pruned: str, bad: str) -> Outcome:
        score.take(event["history"])
        if fatal := score.unknown(event["history"], final=True):
            return Outcome("failed", fatal, fatal)
        if event["signal"] is not None:
            if self._stop.received is not None:
                return Outcome("interrupted")
            name = signal.Signals(event["signal"]).name
            return Outcome("failed", f"ended by {name} from outside the sweep; aip resume continues it")
        if bad or score.value is None:
            return Outcome("failed", bad or f"{score.name} was not finite in any epoch")
        return Outcome("pruned" if pruned else "complete")

    def _send(self, content: Any) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(content) + "\n")
            self._process.stdin.flush()

    def _leave(self) -> None:
        """Wait for the process to exit; callbacks may still have data to send."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(LEAVING)

    def _end(self) -> str:
        """Return the way the process ended, and the last line of its output."""
        code = self._process.wait()
        how = f"ended with exit code {code}" if code >= 0 else f"ended by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            how = "killed by SIGKILL, possibly because memory ran out"
        last = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-1:]
        return f"{how}; {self._log} {f'ends with: {last[0]}' if last else 'is empty'}"

    def close(self) -> None:
        """End the process, even in the middle of its work."""
        _kill(self._process)
        self._process.wait()
        self._stop.watch(None)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


def _kill(process: subprocess.Popen[str]) -> None:
    """End a process and its children without waiting: the signal may have interrupted a wait."""
    if process.returncode is not None:
        return
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
