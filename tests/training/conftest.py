"""Small scenarios and a way to train them in this process."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aipcore.scenario import Scenario

FEATURES = 12
CLASSES = 4


def blobs(samples: int, seed: int) -> tuple[Any, Any]:
    """Noisy points around one centre per class: float32 [samples, 12] and int32 [samples]."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, samples).astype(np.int32)
    centres = np.random.default_rng(99).normal(size=(CLASSES, FEATURES))
    return (centres[labels] + generator.normal(size=(samples, FEATURES))).astype(np.float32), labels


class Blobs(Scenario):
    """Tells noisy points apart; without anything random in the model."""

    monitor = ("max", "accuracy")
    samples = 200

    def train_data(self) -> Any:
        return blobs(self.samples, 1)

    def val_data(self) -> Any:
        return blobs(64, 2)

    def build(self, inputs: Any) -> Any:
        from keras import layers

        hidden = layers.Dense(16, activation="relu")(inputs)
        return layers.Dense(CLASSES)(hidden)

    def losses(self) -> Any:
        import keras

        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self) -> Any:
        import keras

        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]


class NoisyBlobs(Blobs):
    """With dropout and batch normalisation, whose states a resumed run must find again."""

    def build(self, inputs: Any) -> Any:
        from keras import layers

        hidden = layers.Dense(16, activation="relu")(inputs)
        hidden = layers.Dropout(0.3)(layers.BatchNormalization()(hidden))
        return layers.Dense(CLASSES)(hidden)


@pytest.fixture
def blobs_class() -> type[Blobs]:
    """Return the deterministic scenario."""
    return Blobs


@pytest.fixture
def noisy_class() -> type[NoisyBlobs]:
    """Return the scenario with dropout and batch normalisation."""
    return NoisyBlobs


@pytest.fixture
def tensorboard() -> Callable[[Path], AbstractContextManager[str]]:
    """Return a context manager that starts TensorBoard on a folder and a free port, gives its address, and stops it."""
    return _tensorboard


@contextmanager
def _tensorboard(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--load_fast", "false"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    # A TensorBoard process that prints nothing is killed after 120 s.
    timer = threading.Timer(120, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if found := re.search(r" at (http://127\.0\.0\.1:\d+)/", line):
                yield found[1]
                return
        pytest.fail("TensorBoard did not start: " + "".join(said))
    finally:
        timer.cancel()
        process.kill()
        process.communicate()
