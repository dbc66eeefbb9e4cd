"""Resources that several checks use: a process without TensorFlow, one that reads exported models, and results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from aipcore.hooks.discovery import Switches
from aipcore.params.names import normalize
from aipcore.testing.results import CheckFailedError

HEAVY = ("tensorflow", "keras", "numpy", "grain", "tensorboard")
"""Libraries that must not be imported early."""

SECONDS = 300
"""Timeout of a process, in seconds."""

Made = TypeVar("Made")


class Processes:
    """Subprocesses that start on first use, and results that several checks use. A context manager, which ends them.

    Args:
        plugins: kind and name of all plugins under test, so that one process handles all of them.
        switches: switches that disable plugins in the subprocesses.
    """

    def __init__(self, plugins: Sequence[tuple[str, str]], switches: Switches) -> None:
        self._plugins = list(plugins)
        self._switches = switches
        self._light: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._reader: subprocess.Popen[str] | None = None
        self._shared: dict[Hashable, Any] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        if self._reader is not None:
            self._reader.terminate()
            self._reader.communicate()
            self._reader = None
        if self._folder is not None:
            self._folder.cleanup()

    def shared(self, key: Hashable, make: Callable[[Path], Made]) -> Made:
        """Return the result of `make`, which is called once for each key, with a new folder that lasts as long."""
        if key not in self._shared:
            self._folder = self._folder or tempfile.TemporaryDirectory(prefix="aip-checks-")
            self._shared[key] = make(Path(tempfile.mkdtemp(dir=self._folder.name)))
        found: Made = self._shared[key]
        return found

    def light(self, kind: str, name: str) -> Mapping[str, Any]:
        """Return the findings of a process that only looks up the plugin.

        Returns:
            `heavy`: the libraries of `HEAVY` that were imported; `error`: the reason of a failure, or empty; for a
            command also `help`: its help, and `help_heavy`: the libraries imported for it.
        """
        key = kind, normalize(name)
        while key not in self._light:
            # After a heavy import, a process cannot judge further plugins.
            asked = [plugin for plugin in self._plugins if (plugin[0], normalize(plugin[1])) not in self._light]
            asked.sort(key=lambda plugin: (plugin[0], normalize(plugin[1])) != key)
            for answer in self._ask_light(asked or [(kind, name)]):
                self._light[answer["kind"], normalize(answer["name"])] = answer
        return self._light[key]

    def _ask_light(self, plugins: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        request = {"plugins": plugins, "heavy": HEAVY, "switches": self._switches.to_plain()}
        done = subprocess.run(
            [sys.executable, "-m", "aipcore.testing.light"], input=json.dumps(request), capture_output=True, text=True,
            check=False, env=_environment(), timeout=SECONDS,
        )  # fmt: skip
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        if not answers:
            raise CheckFailedError(
                f"the process that looks up the plugin exited with {done.returncode}: {_last(done.stderr)}"
            )
        return answers

    def read_model(self, load: str, folder: Path, inputs: Path, outputs: Path) -> str:
        """Load a model in a process that did not write it, and run it on batches.

        Args:
            load: the `load` reference of the exporter's record.
            folder: folder of the export.
            inputs: `.npz` file with arrays `BATCH/NAME`.
            outputs: `.npz` file to write the outputs to, with the same names.

        Returns:
            the reason of a failure, or an empty string.
        """
        if self._reader is None:
            self._reader = subprocess.Popen(
                [sys.executable, "-m", "aipcore.testing.reader"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True, env=_environment(),
            )  # fmt: skip
        assert self._reader.stdin is not None
        assert self._reader.stdout is not None
        request: dict[str, Any] = {"load": load, "folder": str(folder), "inputs": str(inputs), "outputs": str(outputs)}
        request |= {"switches": self._switches.to_plain()} if self._switches.files else {}
        self._reader.stdin.write(json.dumps(request) + "\n")
        self._reader.stdin.flush()
        answer = self._reader.stdout.readline()
        if not answer:
            code, self._reader = self._reader.wait(), None
            return f"the process that reads the model exited with {code}"
        return str(json.loads(answer)["error"])


def _environment() -> dict[str, str]:
    # The subprocess can import the same modules as this process. It gets no GPU, since this process may occupy it.
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no message"
