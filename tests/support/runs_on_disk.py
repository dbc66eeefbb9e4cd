"""Run folders written by hand, for tests that must not train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PARAMS: dict[str, Any] = {
    "train": {"batch_size": 16, "shuffle": True},
    "trainer": {
        "output_dir": None,
        "epochs": 3,
        "optimizer": {"name": "Adam", "epsilon": 1e-7},
        "learning_rate": {"name": "Constant", "lr": 0.001},
        "callbacks": [],
        "random_seed": None,
    },
}


def params(**changes: Any) -> dict[str, Any]:
    """Return parameters with changes by dotted path, `__` for each dot."""
    made: dict[str, Any] = json.loads(json.dumps(PARAMS))
    for name, value in changes.items():
        *groups, last = name.split("__")
        inner = made
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = value
    return made


def write_run(
    folder: Path, *, state: str | None = "finished", epochs: int = 3, best: float | None = 0.5, **changes: Any
) -> Path:
    """Write the records of a run with some curves, a best model and a checkpoint."""
    for name in ("checkpoint/step-0000000030", "best/variables", "export", "tensorboard/train"):
        (folder / name).mkdir(parents=True)
    made = params(**changes)
    about = {
        "scenario": {"name": "digits", "kind": "plugin", "reference": "digits"},
        "params": made,
        "origins": {"trainer.epochs": "command line", "train.shuffle": "default"},
        "versions": {"python": "3.13", "aipcore": "0.1.0", "tensorflow": "2.21.0", "keras": "3.15.0"},
        "fingerprint": {"source": "0" * 64, "data": {"train": {"size": 100}}},
    }
    history = [{"loss": 1 / epoch, "val_accuracy": 1 - 0.5 / epoch} for epoch in range(1, epochs + 1)]
    monitor = {"mode": "max", "name": "val_accuracy", "value": best, "epoch": epochs}
    (folder / "run.json").write_text(json.dumps(about, indent=2))
    (folder / "params.json").write_text(json.dumps(made, indent=2))
    (folder / "train.log").write_text("the log\n")
    (folder / ".lock").touch()
    (folder / "best/aip.json").write_text(json.dumps({**about, "monitor": monitor}))
    (folder / "export/aip.json").write_text(json.dumps({**about, "epoch": epochs}))
    (folder / "checkpoint/step-0000000030/progress.json").write_text(json.dumps({"history": history}))
    (folder / "checkpoint/step-0000000030/variables.npz").write_bytes(bytes(1000))
    (folder / "best/variables/variables.data-00000-of-00001").write_bytes(bytes(1000))
    (folder / "tensorboard/train/events.out.tfevents.1").write_bytes(bytes(100))
    if state is not None:
        status = {"state": state, "reason": "", "epochs": epochs, "monitor": "val_accuracy", "mode": "max"}
        status |= {"best": best, "best_epoch": epochs, "started": "2026-11-28T08:00:00+00:00"}
        (folder / "status.json").write_text(json.dumps(status | ({"reason": "It broke."} if state == "failed" else {})))
    return folder
