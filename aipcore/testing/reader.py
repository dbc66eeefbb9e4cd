"""Subprocess that loads and runs exported models written by another process.

It reads a line of JSON for each model from standard input, and answers with a line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

from aipcore.hooks.discovery import Switches
from aipcore.hooks.manager import PluginManager
from aipcore.hooks.references import import_reference


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        error = ""
        try:
            _answer(json.loads(line))
        except Exception as problem:
            error = f"{type(problem).__name__}: {' '.join(str(problem).split())}"
        answers.write(json.dumps({"error": error}) + "\n")
        answers.flush()


def _answer(request: dict[str, Any]) -> None:
    import numpy as np

    if "switches" in request:
        # The modules of plugin files cannot be imported by name before the files are loaded.
        _load_files(json.dumps(request["switches"]))
    run = import_reference(request["load"])(Path(request["folder"]))
    batches: dict[str, dict[str, Any]] = {}
    with np.load(request["inputs"], allow_pickle=False) as stored:
        for key in stored.files:
            batch, _, name = key.partition("/")
            batches.setdefault(batch, {})[name] = stored[key]
    answers = {
        f"{batch}/{name}": np.asarray(value) for batch, inputs in batches.items() for name, value in run(inputs).items()
    }
    np.savez(request["outputs"], **answers)  # type: ignore[arg-type]


@cache
def _load_files(switches: str) -> None:
    PluginManager(Switches.from_plain(json.loads(switches)))


if __name__ == "__main__":
    main()
