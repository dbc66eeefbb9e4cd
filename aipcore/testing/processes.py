"""Other processes that checks ask: one without TensorFlow, and one that has not made what it reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from aipcore.hooks.discovery import Switches
from aipcore.params.names import normalize
from aipcore.testing.results import CheckFailedError

HEAVY = ("tensorflow", "keras", "numpy", "grain", "tensorboard")
"""What is not to be imported before it is needed."""

SECONDS = 300
"""A process that takes longer hangs."""


class Processes:
    """Starts processes when they are first asked, and ends them; a context manager.

    Args:
        plugins: kind and name of every plugin that will be asked about, so that one process answers for all.
        switches: which plugins those processes leave out.
    """

    def __init__(self, plugins: Sequence[tuple[str, str]], switches: Switches) -> None:
        self._plugins = list(plugins)
        self._switches = switches
        self._light: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._reader: subprocess.Popen[str] | None = None

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        if self._reader is not None:
            self._reader.terminate()
            self._reader.communicate()
            self._reader = None

    def light(self, kind: str, name: str) -> Mapping[str, Any]:
        """What a process finds that only looks the plugin up.

        Returns:
            `heavy`: the libraries of `HEAVY` that this imported; `error`: why it failed, or empty; for a command also
            `help`: its help, and `help_heavy`: what that imported.
        """
        key = kind, normalize(name)
        while key not in self._light:
            # A process in which something heavy is loaded can tell nothing about the plugins after that.
            asked = [plugin for plugin in self._plugins if (plugin[0], normalize(plugin[1])) not in self._light]
            asked.sort(key=lambda plugin: (plugin[0], normalize(plugin[1])) != key)
            for answer in self._ask_light(asked or [(kind, name)]):
                self._light[answer["kind"], normalize(answer["name"])] = answer
        return self._light[key]

    def _ask_light(self, plugins: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        request = {"plugins": plugins, "heavy": HEAVY, "switches": attrs.asdict(self._switches)}
        done = subprocess.run(
            [sys.executable, "-m", "aipcore.testing.light"], input=json.dumps(request), capture_output=True, text=True,
            check=False, env=_environment(), timeout=SECONDS,
        )  # fmt: skip
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        if not answers:
            raise CheckFailedError(f"the process that looks it up ended with {done.returncode}: {_last(done.stderr)}")
        return answers

    def read_model(self, load: str, folder: Path, inputs: Path, outputs: Path) -> str:
        """Has a process that did not write a model load it and run it on batches.

        Args:
            load: the `load` of the exporter's record.
            folder: what was exported.
            inputs: an `.npz` file of arrays `BATCH/NAME`.
            outputs: where to write its answers, in the same form.

        Returns:
            why it failed, or empty.
        """
        if self._reader is None:
            self._reader = subprocess.Popen(
                [sys.executable, "-m", "aipcore.testing.reader"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True, env=_environment(),
            )  # fmt: skip
        assert self._reader.stdin is not None
        assert self._reader.stdout is not None
        request = {"load": load, "folder": str(folder), "inputs": str(inputs), "outputs": str(outputs)}
        self._reader.stdin.write(json.dumps(request) + "\n")
        self._reader.stdin.flush()
        answer = self._reader.stdout.readline()
        if not answer:
            code, self._reader = self._reader.wait(), None
            return f"the process that reads it ended with {code}"
        return str(json.loads(answer)["error"])


def _environment() -> dict[str, str]:
    # What this process can import, the other can too. A GPU that this process holds has no room for another.
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no message"
