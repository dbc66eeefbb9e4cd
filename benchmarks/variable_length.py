"""Epoch time of a text classifier on texts of varying length: aip with and without XLA, and keras.Model.fit.

An embedding with a mask, a bidirectional LSTM and a dense layer learn from texts of 8 to 160 words. All peers train on
the same batches in the same order with the same initial weights. aip pads batches to a few sizes for XLA; the other
peers pad a batch to its longest text. Runs of all peers take turns. The first epoch of each, which traces and compiles,
is reported separately.

    python benchmarks/variable_length.py [--epochs 4] [--rounds 3] [--units 64] [--batch 32] [--texts 2048]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from engine.lengths import network, texts
from peers import machine

from aipcore.start_tensorflow import import_tensorflow

import_tensorflow()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from aipcore.params import field, group, params  # noqa: E402
from aipcore.scenario import Sample, Scenario, ScenarioParams  # noqa: E402
from aipcore.training.reporter import EpochReport, Reporter  # noqa: E402
from aipcore.training.trainer import Trainer  # noqa: E402

TARGET = 1.5
EQUAL = 1e-5


@params
class NetworkParams:
    """Size of the network."""

    units: int = field(32, help="Units of each direction, and of the embedding.")
    texts: int = field(2048, help="Number of texts.")


@params
class TextParams(ScenarioParams):
    """Parameters of the scenario."""

    model: NetworkParams = group(NetworkParams, help="Size of the network.")


class Texts(Scenario):
    """The network of the benchmark."""

    params_class = TextParams
    params: TextParams

    def train_data(self) -> Any:
        """Return the texts."""
        return [Sample(inputs=words, targets=label) for words, label in texts(self.params.model.texts)]

    def build(self, inputs: Any) -> Any:
        """Build Embedding, BiLSTM, Dense."""
        return network(inputs, self.params.model.units)

    def losses(self) -> Any:
        """Return the cross-entropy."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self) -> Any:
        """Return the accuracy."""
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]


class Epochs(Reporter):
    """Records the time and the loss of each epoch, and the plan."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self.rows: dict[str, str] = {}
        self.compiling = 0.0
        self._begun = time.perf_counter()

    def plan(self, rows: list[tuple[str, str]]) -> None:
        """Record the plan, and the time until it is made."""
        self.rows = dict(rows)
        self.compiling = time.perf_counter() - self._begun

    def epoch_ended(self, report: EpochReport) -> None:
        """Record an epoch."""
        self.seconds.append(report.seconds)
        self.losses.append(report.logs["loss"])


def make_trainer(arguments: argparse.Namespace, jit: str, reporter: Reporter, folder: Path | None = None) -> Trainer:
    """Return a trainer, whose `trainer.jit_compile` is given."""
    values = {
        "trainer.epochs": arguments.epochs,
        "trainer.jit_compile": jit,
        "trainer.random_seed": 1,
        "trainer.export_best": False,
        "trainer.export_final": False,
        "train": {"batch_size": arguments.batch, "bucket_window": arguments.window},
        "learning_rate": "Constant",
        "model": {"units": arguments.units, "texts": arguments.texts},
    }
    if folder is not None:
        values |= {"trainer.checkpoint.every_steps": 7, "trainer.checkpoint.keep": 1000}
    return Trainer.from_scenario(Texts, values, folder, reporter=reporter, quiet=True)


def batches_of(trainer: Trainer, epoch: int) -> tf.data.Dataset:
    """Return the batches of an epoch of aip. `Model.fit` would take the lengths of a `PyDataset` from its first two.

    The number of batches is given, since `Model.fit` counts another optimizer update at the end of a dataset of unknown
    length. Adam then corrects its bias differently from the second epoch on.
    """
    blocks = trainer.data.loader.blocks(epoch, chunk=1)
    batches = [(block.inputs[""][0], block.targets[""][0]) for block in blocks]
    spec = tuple(tf.TensorSpec([None] * part.ndim, part.dtype) for part in batches[0])
    dataset = tf.data.Dataset.from_generator(lambda: batches, output_signature=spec)
    return dataset.apply(tf.data.experimental.assert_cardinality(len(batches))).prefetch(tf.data.AUTOTUNE)


def fit(arguments: argparse.Namespace) -> Epochs:
    """Train with `Model.fit`, with the weights and the batches of aip."""
    trainer, found = make_trainer(arguments, "off", Reporter()), Epochs()
    model = keras.models.clone_model(trainer.model)
    model.set_weights(trainer.model.get_weights())
    model.compile(keras.optimizers.Adam(0.001), trainer.scenario.losses(), metrics=trainer.scenario.metrics())
    for epoch in range(arguments.epochs):
        batches = batches_of(trainer, epoch)
        begun = time.perf_counter()
        history = model.fit(batches, verbose=0)
        found.seconds.append(time.perf_counter() - begun)
        found.losses.append(history.history["loss"][0])
    return found


def is_exact(arguments: argparse.Namespace) -> bool:
    """Return True if a run that is resumed within its second epoch ends with the same bits."""
    with tempfile.TemporaryDirectory() as folder:
        whole = make_trainer(arguments, "on", Reporter(), Path(folder) / "whole")
        history = whole.fit().history
        steps = whole.data.batching.steps
        again = make_trainer(arguments, "on", Reporter())
        kept = sorted((Path(folder) / "whole" / "checkpoint").iterdir())
        again.restore(kept[len(kept) // 2])
        assert 0 < again.state.batches < arguments.epochs * steps
        same = again.fit().history == history
        ends = [trainer.state.variables.read() for trainer in (whole, again)]
        return same and all(value.tobytes() == ends[1][name].tobytes() for name, value in ends[0].items())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default, text in (
        ("epochs", 4, "epochs of a run"),
        ("rounds", 3, "runs of each peer"),
        ("units", 32, "units of each direction"),
        ("batch", 32, "texts in a batch"),
        ("texts", 2048, "number of texts"),
        ("window", 16, "batches within which texts are sorted by length, 0 for none"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} (default: %(default)s)")
    arguments = parser.parse_args()
    print(machine("tensorflow", "keras", "numpy"))
    runs: dict[str, list[Epochs]] = {"aip, XLA": [], "aip, graph": [], "Model.fit": []}
    rows: dict[str, str] = {}
    counts: dict[str, int] = {}
    for _ in range(arguments.rounds):
        for name, kept in runs.items():
            if name == "Model.fit":
                kept.append(fit(arguments))
                continue
            reporter = Epochs()
            trainer = make_trainer(arguments, "on" if name == "aip, XLA" else "off", reporter)
            trainer.fit()
            kept.append(reporter)
            if name == "aip, XLA":
                rows, counts = reporter.rows, {"sizes": trainer.engine.loop.compilations}
            else:
                counts["traces"] = trainer.engine.loop.traces
    later = {name: statistics.median(s for run in kept for s in run.seconds[1:]) for name, kept in runs.items()}
    print(f"\n{rows['data']}; {rows['loop']}\n{rows['padding']}\n")
    print("| peer | epoch, s | first epoch, s | aip with XLA is faster by | difference of losses | relative to each |")
    print("|---|--:|--:|--:|--:|--:|")
    losses = np.array(runs["aip, XLA"][0].losses)
    changes = {name: np.abs(np.array(kept[0].losses) - losses) for name, kept in runs.items()}
    # The last losses are close to 0, and differences of earlier steps remain.
    differences = {name: float(np.max(change) / losses[0]) for name, change in changes.items()}
    for name, kept in runs.items():
        first = statistics.median(run.seconds[0] for run in kept)
        ratio = later[name] / later["aip, XLA"]
        relative = np.max(changes[name] / losses)
        row = (f"{later[name]:.3f}", f"{first:.3f}", f"{ratio:.2f}", f"{differences[name]:.1e}", f"{relative:.1e}")
        print(f"| {name} | {' | '.join(row)} |")
    print(f"\nXLA compiled {counts['sizes']} sizes; the graph was traced {counts['traces']} time for all lengths.")
    print(f"Resuming within an epoch is bit-identical: {'yes' if is_exact(arguments) else 'NO'}.")
    ratio, difference = later["aip, graph"] / later["aip, XLA"], differences["aip, graph"]
    print(f"{'met' if ratio >= TARGET else 'NOT met'}: {ratio:.2f} times the plain graph (target {TARGET})")
    share = f"{difference:.1e} of the first epoch's loss (target {EQUAL:.0e})"
    print(f"{'met' if difference <= EQUAL else 'NOT met'}: losses differ by {share}")


if __name__ == "__main__":
    main()
