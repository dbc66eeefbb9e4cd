"""One epoch of a small network through aip against keras.Model.fit, on the same data in the same order.

60,000 float images of 28x28, batch 16, Dense 128 and Dense 10, Adam, accuracy. Epochs of both alternate, so that both
meet the same noise of the machine. The first epoch of each, which compiles, is reported apart.

    python benchmarks/train_step.py [--epochs 5]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from peers import machine, row

from aipcore.training.start import import_tensorflow

import_tensorflow()

import keras  # noqa: E402
import numpy as np  # noqa: E402

from aipcore.hooks.manager import get_plugin_manager  # noqa: E402
from aipcore.params import Layer, resolve  # noqa: E402
from aipcore.scenario import Scenario, ScenarioParams  # noqa: E402
from aipcore.training.params import run_params_class  # noqa: E402
from aipcore.training.reporter import EpochReport, Reporter  # noqa: E402
from aipcore.training.setup import make_parts  # noqa: E402
from aipcore.training.trainer import Trainer  # noqa: E402

SAMPLES, BATCH = 60_000, 16


def data() -> tuple[Any, Any]:
    """Images (float32, [60000, 28, 28]) and labels (int32, [60000]) that can be learnt."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, SAMPLES).astype(np.int32)
    prototypes = generator.random((10, 28, 28), dtype=np.float32)
    noise = generator.normal(0, 3, (SAMPLES, 28, 28)).astype(np.float32)
    return prototypes[labels] + noise, labels


DATA = data()


class Images(Scenario):
    """The network of the benchmark."""

    def train_data(self) -> Any:
        """The images."""
        return DATA

    def build(self, inputs: Any) -> Any:
        """Dense 128, Dense 10."""
        hidden = keras.layers.Dense(128, activation="relu")(keras.layers.Flatten()(inputs))
        return keras.layers.Dense(10)(hidden)

    def losses(self) -> Any:
        """Cross-entropy."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self) -> Any:
        """Accuracy."""
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]


class Alternate(Reporter):
    """After each of our epochs, lets Model.fit train one."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.fit_seconds: list[float] = []
        self.losses: list[float] = []
        self.fit_losses: list[float] = []
        self.model: Any = None

    def plan(self, rows: list[tuple[str, str]]) -> None:
        """Shows how our loop is compiled."""
        print("aip:", dict(rows)["loop"])

    def epoch_ended(self, report: EpochReport) -> None:
        """Measures one epoch of the peer."""
        self.seconds.append(report.seconds)
        self.losses.append(report.logs["loss"])
        started = time.perf_counter()
        history = self.model.fit(*DATA, batch_size=BATCH, shuffle=False, verbose=0)
        self.fit_seconds.append(time.perf_counter() - started)
        self.fit_losses.append(history.history["loss"][0])


def main() -> None:
    """Runs the comparison and prints it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    epochs = parser.parse_args().epochs
    print(machine("tensorflow", "keras", "numpy"))
    plugins = get_plugin_manager()
    words = ["--trainer.epochs", str(epochs), "--train.shuffle", "false", "--train.batch_size", str(BATCH)]
    words += ["--learning_rate", "Constant", "--trainer.random_seed", "1"]
    params: Any = resolve(run_params_class(ScenarioParams), [Layer.from_arguments(words)], plugins).value
    peer = Alternate()
    parts = make_parts(params.trainer, plugins)
    trainer = Trainer(Images(params), params, name="images", parts=parts, output_dir=None, reporter=peer)
    peer.model = keras.models.clone_model(trainer.graph.model)
    peer.model.set_weights(trainer.graph.model.get_weights())
    scenario = Images(params)
    peer.model.compile(keras.optimizers.Adam(0.001), scenario.losses(), metrics=scenario.metrics())
    started = time.perf_counter()
    trainer.run()
    total = time.perf_counter() - started - sum(peer.fit_seconds)
    row("epoch, compiled (median)", peer.seconds[1:] or peer.seconds, "Model.fit, defaults", peer.fit_seconds[1:])
    row("first epoch", peer.seconds[:1], "Model.fit, first epoch", peer.fit_seconds[:1])
    row(f"all {epochs} epochs, compiling included", [total], "Model.fit", [sum(peer.fit_seconds)])
    for epoch, (ours, theirs) in enumerate(zip(peer.losses, peer.fit_losses, strict=True), start=1):
        print(f"loss of epoch {epoch}: {ours:.6f} and {theirs:.6f}, difference {abs(ours - theirs):.1e}")


if __name__ == "__main__":
    main()
