"""Trains on large and small data in one process, and prints the memory used as JSON, in MiB."""

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
    """A scenario with any number of samples of 4 KiB in one array."""

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
    """A scenario with the same number of bytes, which the model converts to numbers."""

    def train_data(self) -> Any:
        return np.ones((self.samples, 4 * FEATURES), np.uint8), np.zeros(self.samples, np.int32)

    def val_data(self) -> Any:
        return np.ones((99, 4 * FEATURES), np.uint8), np.zeros(99, np.int32)

    def build(self, inputs: Any) -> Any:
        return keras.layers.Dense(2)(keras.layers.Rescaling(1 / 255)(inputs))


class Generated(Floats):
    """A scenario whose samples are generated one by one."""

    def train_data(self) -> Any:
        return (Sample(inputs=np.full(FEATURES, 1, np.float32), targets=np.int32(0)) for _ in range(self.samples))


class Dim(RandomProcessor):
    """A processor that scales each sample by a factor that differs between epochs."""

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return attrs.evolve(sample, inputs=sample.inputs * rng.random(dtype=np.float32))


class Dimmed(Floats):
    """A scenario whose samples are made by two worker processes."""

    def processors(self) -> Any:
        return [Dim()]


class Look(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that measures the worker processes during training."""

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
    """Return a size from one of Linux's reports on a process."""
    return next(int(line.split()[1]) // 1024 for line in Path(path).read_text().splitlines() if line.startswith(name))


def measured(cls: type[Floats], samples: int, workers: int = 0) -> tuple[int, Look, Any]:
    """Return the peak memory of this process in a run, that of the workers, and that in the summary."""
    gc.collect()
    # Memory that the C library keeps in reserve would hide the memory of the run.
    ctypes.CDLL(None).malloc_trim(0)
    # Resets the system's peak measurement.
    Path("/proc/self/clear_refs").write_text("5")
    words = ("--train.batch_size", "500", "--trainer.epochs", "2", "--data.workers", str(workers))
    cls.samples = samples
    run = trainer(cls, None, *words)
    look = run.callbacks["look"] = Look(run)
    memory = run.fit().memory
    return status("/proc/self/status", "VmHWM"), look, memory


def main() -> None:
    """Measure. A first run loads TensorFlow and allocates the batches on the way to the device."""
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
