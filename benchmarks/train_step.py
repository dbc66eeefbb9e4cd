"""Epoch time of a small network in aip and in keras.Model.fit, on the same data in the same order.

60,000 float images of 28x28, batch 16, Dense 128 and Dense 10, Adam, accuracy. Epochs of both alternate, so both see
the same machine noise. The first epoch of each, which compiles, is reported separately.

Then the cost of AdaBelief, EMA of the weights and clipping, each relative to plain Adam.

    python benchmarks/train_step.py [--epochs 5] [--runs 5]
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from peers import machine, row

from aipcore.start_tensorflow import import_tensorflow

import_tensorflow()

import keras  # noqa: E402
import numpy as np  # noqa: E402

from aipcore.scenario import Scenario  # noqa: E402
from aipcore.training.reporter import EpochReport, Reporter  # noqa: E402
from aipcore.training.trainer import Trainer  # noqa: E402

SAMPLES, BATCH = 60_000, 16


def data() -> tuple[Any, Any]:
    """Return learnable images (float32, [60000, 28, 28]) and labels (int32, [60000])."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, SAMPLES).astype(np.int32)
    prototypes = generator.random((10, 28, 28), dtype=np.float32)
    noise = generator.normal(0, 3, (SAMPLES, 28, 28)).astype(np.float32)
    return prototypes[labels] + noise, labels


DATA = data()


class Images(Scenario):
    """The network of the benchmark."""

    def train_data(self) -> Any:
        """Return the images and labels."""
        return DATA

    def build(self, inputs: Any) -> Any:
        """Build Dense 128, Dense 10."""
        hidden = keras.layers.Dense(128, activation="relu")(keras.layers.Flatten()(inputs))
        return keras.layers.Dense(10)(hidden)

    def losses(self) -> Any:
        """Return the cross-entropy."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self) -> Any:
        """Return the accuracy."""
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]


class Alternate(Reporter):
    """Runs one epoch of Model.fit after each epoch of aip."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.fit_seconds: list[float] = []
        self.losses: list[float] = []
        self.fit_losses: list[float] = []
        self.model: Any = None

    def plan(self, rows: list[tuple[str, str]]) -> None:
        """Print how aip's loop is compiled."""
        print("aip:", dict(rows)["loop"])

    def epoch_ended(self, report: EpochReport) -> None:
        """Measure one epoch of the peer."""
        self.seconds.append(report.seconds)
        self.losses.append(report.logs["loss"])
        started = time.perf_counter()
        history = self.model.fit(*DATA, batch_size=BATCH, shuffle=False, verbose=0)
        self.fit_seconds.append(time.perf_counter() - started)
        self.fit_losses.append(history.history["loss"][0])


class Seconds(Reporter):
    """Records the time of each epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def epoch_ended(self, report: EpochReport) -> None:
        """Record the time."""
        self.seconds.append(report.seconds)


def make_trainer(reporter: Reporter, epochs: int, more: dict[str, Any]) -> Trainer:
    """Return a trainer for the benchmark's network, without shuffling and at a constant learning rate."""
    common = {
        "trainer.epochs": epochs,
        "train": {"shuffle": False, "batch_size": BATCH},
        "learning_rate": "Constant",
        "trainer.random_seed": 1,
    }
    return Trainer.from_scenario(Images, {**common, **more}, reporter=reporter)


VARIANTS = {
    "AdaBelief": ({"optimizer": "AdaBelief"}, 1.15),
    "with EMA": ({"trainer.calc_ema": 0.99}, 1.05),
    "with clip_global_norm": ({"optimizer.clip_global_norm": 5.0}, 1.1),
}
"""Options of each variant, and its maximum cost relative to plain Adam."""


def compare_variants(runs: int) -> None:
    """Print the cost of each variant: medians of the second epoch of `runs` runs, in turns."""
    seconds: dict[str, list[float]] = {"Adam": [], **{name: [] for name in VARIANTS}}
    for _ in range(runs):
        for name, kept in seconds.items():
            more = VARIANTS[name][0] if name in VARIANTS else {}
            reporter = Seconds()
            make_trainer(reporter, 2, {"trainer.jit_compile": "on", **more}).fit()
            kept.append(reporter.seconds[1])
    plain = statistics.median(seconds["Adam"])
    for name, (_, limit) in VARIANTS.items():
        ratio = statistics.median(seconds[name]) / plain
        print(f"epoch {name:<22} {ratio:5.2f} times Adam's (limit {limit})")


def main() -> None:
    """Run the comparisons and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5, help="epochs compared with Model.fit (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each variant, 0 for none (default: %(default)s)")
    arguments = parser.parse_args()
    print(machine("tensorflow", "keras", "numpy"))
    compare_with_fit(arguments.epochs)
    if arguments.runs:
        compare_variants(arguments.runs)


def compare_with_fit(epochs: int) -> None:
    """Print the epoch times and losses of aip and Model.fit."""
    peer = Alternate()
    trainer = make_trainer(peer, epochs, {})
    peer.model = keras.models.clone_model(trainer.model)
    peer.model.set_weights(trainer.model.get_weights())
    scenario = trainer.scenario
    peer.model.compile(keras.optimizers.Adam(0.001), scenario.losses(), metrics=scenario.metrics())
    started = time.perf_counter()
    trainer.fit()
    total = time.perf_counter() - started - sum(peer.fit_seconds)
    later = slice(1, None) if epochs > 1 else slice(None)
    row("epoch, compiled (median)", peer.seconds[later], "Model.fit", peer.fit_seconds[later])
    row("first epoch", peer.seconds[:1], "Model.fit, first epoch", peer.fit_seconds[:1])
    row(f"all {epochs} epochs, compiling included", [total], "Model.fit", [sum(peer.fit_seconds)])
    for epoch, (ours, theirs) in enumerate(zip(peer.losses, peer.fit_losses, strict=True), start=1):
        print(f"loss of epoch {epoch}: {ours:.6f} and {theirs:.6f}, difference {abs(ours - theirs):.1e}")


if __name__ == "__main__":
    main()
