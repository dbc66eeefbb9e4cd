"""Trains the tutorial for many epochs with all optional work of a run, and prints its size after each as JSON, in MiB.

Its arguments are a folder, the number of epochs, and the number of further runs that follow in the same process.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import keras
from aip_plugins.scenarios.tutorial.scenario import Tutorial

sys.path.insert(0, str(Path(__file__).parent))
from several_devices import trainer

WORDS = ("--trainer.calc_ema", "0.99", "--trainer.lav_every_n", "5", "--trainer.jit_compile", "off",
         "--trainer.samples_per_epoch", "320", "--val.limit", "80", "--checkpoint.every_steps", "25",
         "--optimizer.clip_global_norm", "1")  # fmt: skip
"""The epochs are short: memory could grow with each."""


class Look(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that records the size of this process."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[float] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.sizes.append(size())


def size() -> float:
    """Return the size of this process, in MiB."""
    return next(int(line.split()[1]) / 1024 for line in Path("/proc/self/status").open() if line.startswith("VmRSS"))


def main() -> None:
    """Train."""
    folder, epochs, runs = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    look = Look()
    run = trainer(Tutorial, folder / "long", *WORDS, "--trainer.epochs", epochs)
    run.callbacks["look"] = look
    run.fit()
    del run
    after = []
    for number in range(runs):
        trainer(Tutorial, folder / f"short-{number}", *WORDS, "--trainer.epochs", "2").fit()
        gc.collect()
        after.append(size())
    sys.stdout.write(json.dumps({"epochs": look.sizes, "runs": after}))


if __name__ == "__main__":
    main()
