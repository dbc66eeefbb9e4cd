"""Trains on a kind of data, and kills itself at a batch or resumes.

Its arguments are the kind, the folder of the run, and `whole`, `resumed`, or `killed` with the number of
batches of an epoch, and the number of batches after which the process is killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import keras

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
import sources

from aipcore.data import stream_reader
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Layer
from aipcore.scenario.loader import loaded_class
from aipcore.training.checkpoint.format import newest_checkpoint
from aipcore.training.request import make_request
from aipcore.training.trainer import Trainer

WORDS = (
    "--trainer.random_seed", "7", "--trainer.jit_compile", "off", "--trainer.tune", "off", "--trainer.epochs", "3",
    "--trainer.export_best", "false", "--trainer.export_final", "false", "--checkpoint.every_steps", "2",
)  # fmt: skip


class Kill(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that kills the process after a number of batches, once a checkpoint within an epoch is complete."""

    def __init__(self, checkpoints: Path, steps: int, batches: int) -> None:
        super().__init__()
        self.checkpoints, self.steps, self.batches = checkpoints, steps, batches
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.epoch * self.steps + batch + 1 < self.batches:
            return
        # They are written in the background.
        time.sleep(0.2)
        if int(newest_checkpoint(self.checkpoints).name[-10:]) % self.steps:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Train."""
    kind, folder, what = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    # An epoch takes only milliseconds. By default, it would have no state.
    stream_reader.STATE_SECONDS, stream_reader.STATE_SHARE = 0, float("inf")
    cls = sources.points(kind, jitter=kind in sources.JITTERED)
    request = make_request(loaded_class(cls, {}), [Layer.from_arguments(WORDS)], get_plugin_manager())
    folder.mkdir(exist_ok=True)
    run = Trainer.from_request(request, output_dir=folder, name="test")
    if what == "resumed":
        run.restore(newest_checkpoint(folder / "checkpoint"))
    if what == "killed":
        run.callbacks["kill"] = Kill(folder / "checkpoint", *map(int, sys.argv[4:]))
    begun = run.state.epoch, run.state.step
    history = run.fit().history
    weights = [variable.numpy().tobytes().hex() for variable in run.model.weights]
    sys.stdout.write(json.dumps({"begun": begun, "history": history, "weights": weights}))


if __name__ == "__main__":
    main()
