"""Trains texts with adapted preprocessing, and kills itself at a batch or resumes, as `aip train` and `aip resume` do.

Its arguments are the kind of data, the folder of the run, and `whole`, `resumed`, or the number of batches after which
the process is killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import aipcore as aip
from aipcore.scenario import Scenario, Stream
from aipcore.training.checkpoint.format import newest_checkpoint, read_checkpoint
from aipcore.training.trainer import Trainer

PARAMS = {
    "trainer.random_seed": 7, "trainer.jit_compile": "off", "trainer.tune": "off", "trainer.epochs": 3,
    "checkpoint.every_steps": 2, "trainer.export_best": False,
}  # fmt: skip
STEPS = 10
"""Batches of an epoch."""


class Reviews(Scenario):
    """Reviews that begin with different words, kept in memory."""

    def texts(self) -> Any:
        random = np.random.default_rng(3)
        words = [f"word{n}" for n in range(50)]
        texts = [" ".join(random.choice(words, random.integers(1, 9))) for _ in range(16 * STEPS)]
        return texts, np.float32([[len(text) > 30] for text in texts])

    def train_data(self) -> Any:
        return self.texts()

    def preprocessing(self) -> Any:
        if sys.argv[3] == "resumed":
            raise AssertionError("adapted again")
        return keras.layers.TextVectorization(40, output_sequence_length=6)

    def build(self, inputs: Any) -> Any:
        hidden = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(40, 4)(inputs))
        return keras.layers.Dense(1, activation="sigmoid")(keras.layers.Dropout(0.2)(hidden))

    def losses(self) -> Any:
        return "binary_crossentropy"


class Streamed(Reviews):
    """The same as a stream of padded batches."""

    def train_data(self) -> Any:
        return Stream(lambda: zip(*self.texts(), strict=True), length=16 * STEPS)

    def preprocessing(self) -> Any:
        super().preprocessing()
        return keras.layers.TextVectorization(40)


class Shuffled(Streamed):
    """The same in the random order of a `tf.data.Dataset`."""

    def train_data(self) -> Any:
        return tf.data.Dataset.from_tensor_slices(self.texts()).shuffle(50, seed=1).batch(16)


class Kill(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that kills the process after a number of batches."""

    def __init__(self, checkpoints: Path, batches: int) -> None:
        super().__init__()
        self.checkpoints, self.batches, self.epoch = checkpoints, batches, 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.epoch * STEPS + batch + 1 >= self.batches:
            # Checkpoints are written in the background.
            time.sleep(0.2)
            if int(newest_checkpoint(self.checkpoints).name[-10:]) % STEPS:
                os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Train."""
    kind, folder, what = {"kept": Reviews, "streamed": Streamed, "shuffled": Shuffled}[sys.argv[1]], *sys.argv[2:]
    run = Path(folder)
    if what.isdigit():
        fit = Trainer.fit

        def killed(trainer: Trainer) -> Any:
            trainer.callbacks["kill"] = Kill(run / "checkpoint", int(what))
            return fit(trainer)

        Trainer.fit = killed  # type: ignore[method-assign]
    if what == "resumed":
        aip.resume(run, scenario=kind, quiet=True)
    else:
        aip.train(kind, PARAMS, run, quiet=True)
    stored = read_checkpoint(newest_checkpoint(run / "checkpoint"))
    arrays = {name: array for name, array in stored.arrays.items() if not name.startswith("stream/")}
    bits = hashlib.sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays))).hexdigest()
    resumed = json.loads((run / "run.json").read_text()).get("resumed")
    sys.stdout.write(json.dumps({"bits": bits, "history": stored.progress["history"], "resumed": resumed}))


if __name__ == "__main__":
    main()
