"""The process of one trial: `aip train` or `aip resume` with a listener that asks the sweep after each epoch.

Line by line it is told on standard input what to do, and writes what happens to standard output, as JSON. Everything
else that the process prints, TensorFlow included, goes where its standard error goes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from queue import SimpleQueue
from typing import IO, Any

from aipcore.cli.resume import resume
from aipcore.cli.train import train
from aipcore.errors import AipError, sentence
from aipcore.hooks.discovery import Switches
from aipcore.hooks.manager import configure_plugins
from aipcore.params.names import escaped
from aipcore.training.reporter import EpochReport, Reporter

ORPHANED = "The sweep is gone, so the trial stops here."


class Line:
    """The two pipes to the sweep, out of reach of all that prints or reads."""

    def __init__(self) -> None:
        self._out: IO[str] = os.fdopen(os.dup(1), "w", encoding="utf-8")
        self._in: IO[str] = os.fdopen(os.dup(0), encoding="utf-8")
        os.dup2(2, 1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        self._heard: SimpleQueue[str | None] = SimpleQueue()
        threading.Thread(target=self._listen, name="aip-sweep", daemon=True).start()

    def _listen(self) -> None:
        for text in self._in:
            self._heard.put(json.loads(text))
        self._heard.put(None)
        # Whoever asked for this trial was killed: nobody would notice what it still finds out.
        os.kill(os.getpid(), signal.SIGTERM)

    def hear(self) -> Any:
        """The next thing that the sweep says, None if it is gone."""
        return self._heard.get()

    def say(self, event: str, **content: Any) -> None:
        """Tells the sweep."""
        try:
            self._out.write(json.dumps({"event": event, **content}) + "\n")
            self._out.flush()
        except BrokenPipeError:
            return


class Listener(Reporter):
    """Tells the sweep of each epoch, and has it decide whether to go on."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._answer = ""

    def epoch_ended(self, report: EpochReport) -> None:
        """Asks."""
        self._line.say(
            "epoch", epoch=report.epoch, epochs=report.epochs, monitor=report.monitor, logs=_plain(report.logs)
        )
        answer = self._line.hear()
        self._answer = ORPHANED if answer is None else answer

    def stop_reason(self) -> str:
        """What the sweep answered."""
        return self._answer


def main() -> int:
    """Runs a trial; 0 if it came to an end."""
    line = Line()
    asked = line.hear()
    if asked is None:
        return 1
    configure_plugins(Switches.from_environment(disabled=asked["disabled"], third_party=asked["third_party"]))
    try:
        run = {"train": train, "resume": resume}[asked["command"]]
        result = run(asked["words"], Listener(line))
        assert result is not None, "a trial does not ask for help"
        number = None if result.signal is None else int(result.signal)
        line.say("end", signal=number, history=[_plain(logs) for logs in result.history])
    except AipError as error:
        if error.__cause__ is not None:
            traceback.print_exc()
        print(f"error: {escaped(str(error))}", file=sys.stderr)  # noqa: T201 - the trial's log
        line.say("failed", reason=str(error))
        return error.exit_code
    except Exception as error:
        traceback.print_exc()
        line.say("failed", reason=sentence(error))
        return 1
    return 0


def _plain(logs: Any) -> dict[str, float]:
    return {name: float(value) for name, value in logs.items()}


if __name__ == "__main__":
    sys.exit(main())
