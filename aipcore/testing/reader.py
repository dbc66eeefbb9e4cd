"""Subprocess that loads and runs exported models written by another process.

It reads a line of JSON for each model from standard input, and answers with a line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

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


if __name__ == "__main__":
    main()
