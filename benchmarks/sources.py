"""Epoch time of aip and of keras.Model.fit on each kind of data.

4,096 float images of 28x28, Dense 128 and Dense 10, Adam. `Model.fit` is measured with 1 and with 32 steps per call,
each with and without XLA, and aip with and without XLA; the fastest of each counts. Without the option, aip chooses XLA
in longer runs only. All runs take turns. The times are medians of all epochs except the first of each run, which
compiles.

Both get the same object, except where `Model.fit` accepts only batches: it gets the batches of `tf.data` samples by
`batch`, and those of a Hugging Face `Dataset` by `to_tf_dataset`.

    python benchmarks/sources.py [--kinds arrays grain] [--batches 32 256] [--epochs 6] [--rounds 2]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from peers import machine

from aipcore.start_tensorflow import import_tensorflow

import_tensorflow()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from aipcore.scenario import Scenario, Stream  # noqa: E402
from aipcore.training.reporter import EpochReport, Reporter  # noqa: E402
from aipcore.training.trainer import Trainer  # noqa: E402

SAMPLES = 4096
LIMIT = 1.1
VARIANTS = [(steps, jit) for steps in (1, 32) for jit in (False, True)]
"""Steps per call and XLA of `Model.fit`."""

IMAGES = np.random.default_rng(0).random((SAMPLES, 28, 28), dtype=np.float32)
LABELS = np.random.default_rng(1).integers(0, 10, SAMPLES).astype(np.int32)


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of the arrays."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def __len__(self) -> int:
        return SAMPLES // self.size

    def __getitem__(self, index: int) -> Any:
        part = slice(index * self.size, (index + 1) * self.size)
        return IMAGES[part], LABELS[part]


def generated(size: int) -> Iterator[Any]:
    """Yield batches without end."""
    while True:
        for first in range(0, SAMPLES, size):
            yield IMAGES[first : first + size], LABELS[first : first + size]


def tensors() -> Any:
    """Return a shuffled dataset of samples."""
    return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).shuffle(1024)


def tf_batches(size: int) -> Any:
    """Return a shuffled dataset of batches."""
    return tensors().batch(size).prefetch(tf.data.AUTOTUNE)


class Rows:
    """Samples by index."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> Any:
        return IMAGES[index], LABELS[index]


def grain_batches(size: int) -> Any:
    """Return an `IterDataset` of shuffled batches."""
    import grain

    return grain.MapDataset.source(Rows()).shuffle(seed=1).batch(size).to_iter_dataset()


def hugging_face() -> Any:
    """Return a `datasets.Dataset` in the format of NumPy."""
    import datasets

    return datasets.Dataset.from_dict({"x": IMAGES.reshape(SAMPLES, -1), "y": LABELS}).with_format("numpy")


def hugging_face_batches(size: int) -> Any:
    """Return the batches of the same dataset for `Model.fit`."""
    return hugging_face().to_tf_dataset(batch_size=size, columns="x", label_cols="y", shuffle=True)


KINDS: dict[str, tuple[Callable[[int], Any], Callable[[int], Any]]] = {
    "arrays": (lambda size: (IMAGES, LABELS),) * 2,
    "tf.data batches": (tf_batches, tf_batches),
    "tf.data samples": (lambda size: tensors(), tf_batches),
    "PyDataset": (Batches, Batches),
    "generator": (lambda size: Stream(lambda: generated(size), batched=True), generated),
    "grain": (lambda size: Stream(grain_batches(size), batched=True, length=SAMPLES // size), grain_batches),
    "Hugging Face": (lambda size: hugging_face(), hugging_face_batches),
}
"""The data for aip and for `Model.fit`, by kind."""


class Images(Scenario):
    """The network of the benchmark."""

    data: Any = None

    def train_data(self) -> Any:
        """Return the data of the kind."""
        return self.data

    def build(self, inputs: Any) -> Any:
        """Build Dense 128, Dense 10."""
        return network(inputs)

    def losses(self) -> Any:
        """Return the cross-entropy."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class ImagesByColumn(Images):
    """The same for the rows of a Hugging Face dataset."""

    def to_sample(self, element: Any) -> Any:
        """Return a row as a sample."""
        return element["x"], element["y"]


def network(inputs: Any) -> Any:
    """Return the outputs of the network."""
    hidden = keras.layers.Dense(128, activation="relu")(keras.layers.Flatten()(inputs))
    return keras.layers.Dense(10)(hidden)


class Seconds(Reporter):
    """Records the time of each epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def epoch_ended(self, report: EpochReport) -> None:
        """Record the time."""
        self.seconds.append(report.seconds)


class Clock(keras.callbacks.Callback):  # type: ignore[misc]
    """Records the time of each epoch of `Model.fit`."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._begun = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Record the beginning."""
        self._begun = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Record the time."""
        self.seconds.append(time.perf_counter() - self._begun)


def train(data: Any, size: int, epochs: int, *, jit: bool) -> Seconds:
    """Train with aip, and return the times."""
    reporter = Seconds()
    endless = {"trainer.samples_per_epoch": SAMPLES} if isinstance(data, Stream) and data.length is None else {}
    params = {
        "trainer.epochs": epochs,
        "trainer.jit_compile": "on" if jit else "off",
        "train.batch_size": size,
        "learning_rate": "Constant",
        **endless,
    }
    base = ImagesByColumn if hasattr(data, "column_names") else Images
    Trainer.from_scenario(type("Kind", (base,), {"data": data}), params, reporter=reporter).fit()
    return reporter


def compiled(shape: tuple[int, ...], steps: int, *, jit: bool) -> Any:
    """Return a model for `fit`."""
    inputs = keras.Input(shape)
    model = keras.Model(inputs, network(inputs))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss, steps_per_execution=steps, jit_compile=jit)
    return model


def compare(kind: str, size: int, epochs: int, rounds: int) -> str:
    """Measure one kind of data, and return its row of the table."""
    ours, theirs = KINDS[kind]
    steps = SAMPLES // size
    shape = (784,) if kind == "Hugging Face" else (28, 28)
    models = {(min(most, steps), jit): compiled(shape, min(most, steps), jit=jit) for most, jit in VARIANTS}
    arguments: dict[str, Any] = {}
    if kind == "arrays":
        arguments = {"batch_size": size}
    elif kind == "generator":
        arguments = {"steps_per_epoch": steps, "shuffle": False}
    aip: dict[str, list[float]] = {"graph": [], "XLA": []}
    fit: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name in aip:
            aip[name] += train(ours(size), size, epochs, jit=name == "XLA").seconds[1:]
        for (calls, jit), model in models.items():
            clock, given = Clock(), theirs(size)
            x = given if isinstance(given, tuple) else (given,)
            model.fit(*x, epochs=epochs, verbose=0, callbacks=[clock], **arguments)
            fit.setdefault(f"{'XLA' if jit else 'graph'}, {calls} per call", []).extend(clock.seconds[1:])
    (our_name, our_ms), (their_name, their_ms) = fastest(aip), fastest(fit)
    ratio = our_ms / their_ms
    met = "met" if ratio <= LIMIT else "NOT met"
    return f"| {kind} | {size} | {our_ms:.1f} | {our_name} | {their_ms:.1f} | {their_name} | {ratio:.2f} | {met} |"


def fastest(seconds: dict[str, list[float]]) -> tuple[str, float]:
    """Return the name with the smallest median, and this median in milliseconds."""
    medians = {name: 1000 * statistics.median(found) for name, found in seconds.items()}
    return min(medians.items(), key=lambda item: item[1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="only these kinds of data")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 256], help="batch sizes")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of a run (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each peer (default: %(default)s)")
    arguments = parser.parse_args()
    print(f"{machine('tensorflow', 'keras', 'numpy')}\n")
    print(f"| data | batch | aip, ms | as | Model.fit, ms | as | aip / fit | at most {LIMIT} |")
    print("|---|--:|--:|---|--:|---|--:|---|")
    for kind in arguments.kinds:
        for size in arguments.batches:
            print(compare(kind, size, arguments.epochs, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
