"""Trains on short and long streams of samples of 1 MiB in one process, and prints peak memory and state sizes as JSON.

Its argument is the kind of stream.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Layer
from aipcore.scenario import Scenario
from aipcore.scenario.loader import loaded_class
from aipcore.training.request import make_request
from aipcore.training.trainer import Trainer

VALUES = 2**18
WORDS = (
    "--trainer.epochs", "1", "--trainer.random_seed", "1", "--trainer.jit_compile", "off", "--trainer.tune", "off",
    "--data.workers", "0",
)  # fmt: skip


class Counted:
    """An iterator over new arrays of 1 MiB, with a state."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.count = 0

    def __iter__(self) -> Counted:
        return self

    def __next__(self) -> Any:
        if self.count == self.samples:
            raise StopIteration
        self.count += 1
        value = np.float32(self.count % 7)
        return np.full((VALUES, 1), value), value.reshape(1)

    def get_state(self) -> int:
        return self.count

    def set_state(self, state: int) -> None:
        self.count = state


class Streamed:
    """An iterable of such arrays."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __iter__(self) -> Counted:
        return Counted(self.samples)


def tensors(samples: int) -> Any:
    """Return a `tf.data.Dataset` of such arrays."""

    def sample(number: Any) -> Any:
        value = tf.cast(number % 7, tf.float32)
        return tf.fill((VALUES, 1), value), tf.reshape(value, (1,))

    return tf.data.Dataset.range(samples).map(sample, num_parallel_calls=2).batch(16)


class Means(Scenario):
    """A scenario whose model reduces each sample in one go."""

    kind, samples = "iterator", 0
    kinds: ClassVar[dict[str, Any]] = {"iterator": Streamed, "tf.data": tensors}

    def train_data(self) -> Any:
        return self.kinds[self.kind](self.samples)

    def build(self, inputs: Any) -> Any:
        return keras.layers.Dense(1)(keras.layers.GlobalAveragePooling1D()(inputs))

    def losses(self) -> Any:
        return "mse"


def measured(samples: int) -> tuple[int, int]:
    """Return the peak memory of this process while it trains, in MiB, and the size of the stream's state in bytes."""
    Means.samples = samples
    words = (*WORDS, "--trainer.samples_per_epoch", str(samples))
    request = make_request(loaded_class(Means, {}), [Layer.from_arguments(words)], get_plugin_manager())
    run = Trainer.from_request(request, output_dir=None, name="test")
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    # Resets the system's peak measurement.
    Path("/proc/self/clear_refs").write_text("5")
    run.fit()
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))
    stream = run.data.stream
    assert stream is not None
    state = stream.state(samples)
    assert samples < 1000 or state["sample"]
    return peak, sum(map(np.size, tf.nest.flatten(state["state"])))


def main() -> None:
    """Measure. A first run loads TensorFlow."""
    Means.kind = sys.argv[1]
    measured(640)
    sys.stdout.write(json.dumps([measured(samples) for samples in map(int, sys.argv[2:])]))


if __name__ == "__main__":
    main()
