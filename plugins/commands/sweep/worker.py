"""The process of one trial: a training run that asks the sweep after each epoch if it should continue.

It reads its request and the answers from standard input, and writes events to standard output, as lines of JSON. All
other output of the process goes to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from aipcore.cli.cluster import run_output
from aipcore.cli.request import PARAMS, make_request, split_arguments
from aipcore.errors import AipError, sentence
from aipcore.hooks.discovery import Switches
from aipcore.hooks.manager import configure_plugins
from aipcore.params import Layer
from aipcore.params.names import escaped
from aipcore.training.reporter import EpochReport, Reporter, TrainResult
from aipcore.training.resume import resume_run
from aipcore.training.stored_run import find_stored_run
from aipcore.training.train import train_request

ORPHANED = "The sweep has ended, so the trial stops."


class SweepReporter(Reporter):
    """Sends each epoch to the sweep, and stops the run if the sweep requests it."""

    def __init__(self) -> None:
        # Protected from code that prints or reads.
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        self._in = os.fdopen(os.dup(0), encoding="utf-8")
        os.dup2(2, 1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        self._answers: SimpleQueue[Any] = SimpleQueue()
        self._answer = ""
        threading.Thread(target=self._listen, name="aip-sweep", daemon=True).start()

    def _listen(self) -> None:
        for text in self._in:
            self._answers.put(json.loads(text))
        self._answers.put(None)
        # The sweep was killed, so nothing reads the result.
        os.kill(os.getpid(), signal.SIGTERM)

    def receive(self) -> Any:
        """Return the next message of the sweep; None if the sweep has ended."""
        return self._answers.get()

    def send(self, event: str, **content: Any) -> None:
        """Send an event to the sweep."""
        try:
            self._out.write(json.dumps({"event": event, **content}) + "\n")
            self._out.flush()
        except BrokenPipeError:
            return

    def epoch_ended(self, report: EpochReport) -> None:
        """Send the epoch, and wait for the answer."""
        self.send("epoch", epoch=report.epoch, epochs=report.epochs, monitor=report.monitor, logs=_plain(report.logs))
        answer = self.receive()
        self._answer = ORPHANED if answer is None else answer

    def stop_reason(self) -> str:
        """Return the sweep's answer."""
        return self._answer


def main() -> int:
    """Run a trial, and return the exit code."""
    sweep = SweepReporter()
    asked = sweep.receive()
    if asked is None:
        return 1
    configure_plugins(Switches.from_plain(asked["switches"]))
    try:
        result = _run(asked["words"], asked["folder"], sweep)
        number = None if result.signal is None else int(result.signal)
        sweep.send("end", signal=number, history=[_plain(logs) for logs in result.history])
    except AipError as error:
        if error.__cause__ is not None:
            traceback.print_exc()
        print(f"error: {escaped(str(error))}", file=sys.stderr)  # noqa: T201 - the trial's log
        sweep.send("failed", reason=str(error))
        return error.exit_code
    except Exception as error:
        traceback.print_exc()
        sweep.send("failed", reason=sentence(error))
        return 1
    return 0


def _run(words: list[str], folder: str | None, sweep: SweepReporter) -> TrainResult:
    """Train the scenario.

    Args:
        words: the scenario and its parameters; for a resumed run, the changed parameters.
        folder: the folder of the run to resume; None for a new run.
        sweep: receives the epochs.
    """
    output = run_output({}, sweep)
    if folder is None:
        return train_request(make_request(split_arguments(words, (PARAMS,), "train"), "train"), output)
    # The run belongs to the sweep, and uses the scenario that the user named to the sweep.
    return resume_run(find_stored_run(Path(folder), [Layer.from_arguments(words)], trust=True), output)


def _plain(logs: Any) -> dict[str, float]:
    return {name: float(value) for name, value in logs.items()}


if __name__ == "__main__":
    sys.exit(main())
