"""Trains on large and small data in one process, and prints how much memory that took as JSON, in MiB."""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from pathlib import Path
from typing import Any

import attrs
import keras
import numpy as np

from aipcore.scenario import RandomProcessor, Sample, Scenario
from aipcore.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parent))
from several_devices import trainer

FEATURES = 1024
FEW, MANY = 37_500, 112_500


class Floats(Scenario):
    """As many samples of 4 KiB as are asked for, in one array."""

    samples = MANY
    monitor = ("min", "val_loss")

    def train_data(self) -> Any:
        return np.ones((self.samples, FEATURES), np.float32), np.zeros(self.samples, np.int32)

    def val_data(self) -> Any:
        return np.ones((99, FEATURES), np.float32), np.zeros(99, np.int32)

    def build(self, inputs: Any) -> Any:
        return keras.layers.Dense(2)(inputs)

    def losses(self) -> Any:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Bytes(Floats):
    """As many bytes, which the model turns into numbers."""

    def train_data(self) -> Any:
        return np.ones((self.samples, 4 * FEATURES), np.uint8), np.zeros(self.samples, np.int32)

    def val_data(self) -> Any:
        return np.ones((99, 4 * FEATURES), np.uint8), np.zeros(99, np.int32)

    def build(self, inputs: Any) -> Any:
        return keras.layers.Dense(2)(keras.layers.Rescaling(1 / 255)(inputs))


class Generated(Floats):
    """The samples come one by one."""

    def train_data(self) -> Any:
        return (Sample(inputs=np.full(FEATURES, 1, np.float32), targets=np.int32(0)) for _ in range(self.samples))


class Dim(RandomProcessor):
    """Scales each sample by a number that differs from epoch to epoch."""

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return attrs.evolve(sample, inputs=sample.inputs * rng.random(dtype=np.float32))


class Dimmed(Floats):
    """Two worker processes make the samples."""

    def processors(self) -> Any:
        return [Dim()]


class Look(keras.callbacks.Callback):  # type: ignore[misc]
    """Measures the worker processes while they run."""

    def __init__(self, run: Trainer) -> None:
        super().__init__()
        self.workers = run.data.workers
        self.own: list[int] = []
        self.shared: list[int] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for process in self.workers.processes():
            path = f"/proc/{process}/smaps_rollup"
            self.own.append(status(path, "Private_Dirty") + status(path, "Private_Clean"))
            self.shared.append(status(path, "Shared_Dirty"))


def status(path: str, name: str) -> int:
    """A size from one of Linux' reports on a process."""
    return next(int(line.split()[1]) // 1024 for line in Path(path).read_text().splitlines() if line.startswith(name))


def measured(cls: type[Floats], samples: int, workers: int = 0) -> tuple[int, Look, Any]:
    """Return the most memory that this process had in a run, what the workers had, and what the summary says."""
    gc.collect()
    # What the C library keeps for later would hide what the run takes.
    ctypes.CDLL(None).malloc_trim(0)
    # Has the system measure the peak again.
    Path("/proc/self/clear_refs").write_text("5")
    words = ("--train.batch_size", "500", "--trainer.epochs", "2", "--data.workers", str(workers))
    cls.samples = samples
    run = trainer(cls, None, *words)
    look = run.callbacks["look"] = Look(run)
    memory = run.fit().memory
    return status("/proc/self/status", "VmHWM"), look, memory


def main() -> None:
    """Measure; a first run pays for what TensorFlow loads, and for the chunks that are on the way to the device."""
    measured(Floats, MANY)
    found: dict[str, Any] = {"few": FEW * FEATURES * 4 // 2**20, "many": MANY * FEATURES * 4 // 2**20}
    for cls in (Floats, Bytes, Generated):
        found[cls.__name__] = [measured(cls, samples)[0] for samples in (FEW, MANY)]
    few, *_ = measured(Dimmed, FEW, workers=2)
    many, look, memory = measured(Dimmed, MANY, workers=2)
    found["Dimmed"] = [few, many]
    found["own"], found["shared"], found["memory"] = look.own, look.shared, attrs.asdict(memory)
    found["now"] = status("/proc/self/status", "VmHWM") * 2**20
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
