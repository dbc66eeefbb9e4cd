"""Trains on a stream of samples of 1 MiB, and prints the peak memory and the size of the state in each epoch as JSON.

Its arguments are the kind of stream, the number of epochs, and the samples of an epoch. The stream has one pass.
"""

from __future__ import annotations

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
    "--trainer.random_seed", "1", "--trainer.jit_compile", "off", "--trainer.tune", "off",
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


class Measure(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that measures each epoch."""

    def __init__(self, stream: Any, samples: int) -> None:
        super().__init__()
        self.stream, self.samples = stream, samples
        self.found: list[tuple[int, int]] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        # Resets the system's peak measurement.
        Path("/proc/self/clear_refs").write_text("5")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))
        state = self.stream.state((epoch + 1) * self.samples)
        assert state["sample"]
        self.found.append((peak, sum(map(np.size, tf.nest.flatten(state["state"])))))


def main() -> None:
    """Train and measure."""
    epochs, samples = map(int, sys.argv[2:])
    Means.kind, Means.samples = sys.argv[1], epochs * samples
    words = (*WORDS, "--trainer.samples_per_epoch", str(samples), "--trainer.epochs", str(epochs))
    request = make_request(loaded_class(Means, {}), [Layer.from_arguments(words)], get_plugin_manager())
    run = Trainer.from_request(request, output_dir=None, name="test")
    measure = run.callbacks["measure"] = Measure(run.data.stream, samples)
    run.fit()
    sys.stdout.write(json.dumps(measure.found))


if __name__ == "__main__":
    main()
