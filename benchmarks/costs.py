"""Cost of a run beside its steps: of the whole command, and of validation, checkpoints, TensorBoard and exports.

The first part compares `aip train tutorial`, from start to end, with importing TensorFlow and Keras plus the same steps
of a compiled loop that is written only for this model. The second part trains a small convolutional network with epochs
of more than 10 s, and measures the time in which training waits for each other part of an epoch.

    python benchmarks/costs.py [--runs 5] [--samples 64000] [--epochs 3]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from peers import machine

WHOLE, SHARE, LONG = 1.3, 0.05, 10.0

AIP = [sys.executable, "-c", "from aipcore.cli.main import main; main()", "train", "tutorial", "--trainer.output_dir"]
IMPORT = [sys.executable, "-c", "import tensorflow, keras"]
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
EPOCHS, BATCH = 20, 32
"""The defaults of the tutorial."""


def seconds_of(words: list[str]) -> float:
    """Return the seconds of a process."""
    begun = time.perf_counter()
    subprocess.run(words, check=True, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun


def steps_by_hand() -> None:
    """Print the seconds of all steps of the tutorial in a hand-written loop, which is already traced."""
    from aipcore.start_tensorflow import import_tensorflow

    import_tensorflow()
    import keras
    import tensorflow as tf
    from aip_plugins.scenarios.tutorial.datasets import load
    from aip_plugins.scenarios.tutorial.graphs import logits
    from aip_plugins.scenarios.tutorial.params import MLP

    (images, labels), _ = load("digits")
    inputs = keras.Input(images.shape[1:])
    model = keras.Model(inputs, logits(inputs, MLP()))
    optimizer = keras.optimizers.Adam(0.001)
    optimizer.build(model.trainable_variables)
    truth = labels.astype("int32")
    steps = -(-len(images) // BATCH)

    @tf.function(autograph=False)
    def epoch(columns: Any, truth: Any, limit: Any) -> None:
        def body(step: Any) -> Any:
            at = step * BATCH
            with tf.GradientTape() as tape:
                output = model(columns[at : at + BATCH], training=True)
                loss = tf.reduce_mean(
                    keras.losses.sparse_categorical_crossentropy(truth[at : at + BATCH], output, from_logits=True)
                )
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
            return [step + 1]

        tf.while_loop(lambda step: step < limit, body, [tf.constant(0)], parallel_iterations=1)

    given = tf.constant(images), tf.constant(truth)
    epoch(*given, tf.constant(1))
    begun = time.perf_counter()
    for _ in range(EPOCHS):
        epoch(*given, tf.constant(steps))
    optimizer.iterations.numpy()
    print(time.perf_counter() - begun)


def whole_command(runs: int) -> None:
    """Print the time of the command, relative to the import and the steps."""
    alone, steps, whole = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(runs + 1):
            alone.append(seconds_of(IMPORT))
            words = [sys.executable, __file__, "--steps"]
            steps.append(float(subprocess.check_output(words, env=ENVIRONMENT, stderr=subprocess.DEVNULL)))
            whole.append(seconds_of([*AIP, str(Path(folder, str(number)))]))
    # The first run of each fills the system's caches.
    reference = statistics.median(alone[1:]) + statistics.median(steps[1:])
    ratio = statistics.median(whole[1:]) / reference
    print(f"import tensorflow, keras             {statistics.median(alone[1:]):6.2f} s")
    print(f"its steps in a hand-written loop     {statistics.median(steps[1:]):6.2f} s")
    print(f"aip train tutorial, from start to end{statistics.median(whole[1:]):6.2f} s")
    print(f"{'met' if ratio <= WHOLE else 'NOT met'}: {ratio:.2f} times the import and its steps (limit {WHOLE})")


class Waits:
    """The seconds that training spends in each part of an epoch."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inner = 0.0

    def watch(self, part: str, owner: Any, name: str) -> None:
        """Measure a method. Parts within it count only as themselves."""
        method: Callable[..., Any] = getattr(owner, name)

        @wraps(method)
        def measured(*args: Any, **kwargs: Any) -> Any:
            outer, self._inner = self._inner, 0.0
            begun = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                whole = time.perf_counter() - begun
                self.seconds[part] += whole - self._inner
                self._inner = outer + whole

        setattr(owner, name, measured)


def parts_of_epochs(samples: int, epochs: int) -> None:
    """Print the share of each part in the time of all epochs."""
    from aipcore.start_tensorflow import import_tensorflow

    import_tensorflow()
    import keras
    from engine.models import TASKS

    from aipcore.scenario import Scenario
    from aipcore.training.checkpoint.manager import CheckpointManager
    from aipcore.training.checkpoint.run_writer import RunWriter
    from aipcore.training.engine.evaluate import Evaluation
    from aipcore.training.reporter import EpochReport, Reporter
    from aipcore.training.trainer import Trainer

    task = TASKS["CNN 28x28, batch 32"]
    (inputs, targets), held_out = task.data(samples + samples // 20), samples // 20

    class Images(Scenario):
        """The network, with one validation sample for 20 training samples."""

        monitor = ("min", "val_loss")

        def train_data(self) -> Any:
            return {"image": inputs["image"][held_out:]}, targets[held_out:]

        def val_data(self) -> Any:
            return {"image": inputs["image"][:held_out]}, targets[:held_out]

        def build(self, inputs: Any) -> Any:
            return task.build(inputs)

        def losses(self) -> Any:
            return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

        def metrics(self) -> Any:
            return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    class Epochs(Reporter):
        """Records the seconds of each epoch."""

        def __init__(self) -> None:
            self.seconds: list[float] = []

        def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
            self._begun = time.perf_counter()

        def epoch_ended(self, report: EpochReport) -> None:
            self.seconds.append(time.perf_counter() - self._begun)

    waits, reporter = Waits(), Epochs()
    waits.watch("validation", Evaluation, "run")
    waits.watch("checkpoints", CheckpointManager, "save")
    waits.watch("checkpoints", CheckpointManager, "save_if_due")
    waits.watch("TensorBoard", RunWriter, "_write_events")
    waits.watch("export of best", RunWriter, "write_model")
    params = {
        "trainer": {"epochs": epochs, "log_every_steps": 50, "checkpoint.every_steps": 500, "export_final": False},
        "train.batch_size": task.batch_size,
        "optimizer": "SGD",
        "learning_rate.lr": 1e-4,
    }
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer.from_scenario(Images, params, folder, reporter=reporter)
        trainer.fit()
    whole = sum(reporter.seconds)
    print(f"\n{epochs} epochs of {whole / epochs:.1f} s, one validation sample for 20 training samples")
    for part, seconds in sorted(waits.seconds.items(), key=lambda each: -each[1]):
        print(f"{part:<16} {seconds / epochs * 1000:7.1f} ms an epoch  {100 * seconds / whole:5.2f} %")
    share = sum(waits.seconds.values()) / whole
    print(f"{'met' if share <= SHARE else 'NOT met'}: {100 * share:.2f} % together (limit {100 * SHARE:g} %)")
    if whole / epochs < LONG:
        print(f"The limit is for epochs of at least {LONG:g} s. Increase --samples.")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="processes of each kind (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=64_000, help="training samples (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="epochs (default: %(default)s)")
    parser.add_argument("--steps", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--parts", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.steps:
        steps_by_hand()
    elif arguments.parts:
        parts_of_epochs(arguments.samples, arguments.epochs)
    else:
        print(machine("tensorflow", "keras"), flush=True)
        whole_command(arguments.runs)
        words = ["--parts", "--samples", str(arguments.samples), "--epochs", str(arguments.epochs)]
        subprocess.run([sys.executable, __file__, *words], check=True, env=ENVIRONMENT, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
