"""Trains on two devices and on one, in its own process, and prints the results as JSON.

TensorFlow can divide its CPU only before its first computation, which other tests in a process may have started.
Its argument is a folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from aipcore.distributed.devices import select_devices
from aipcore.distributed.params import DeviceParams
from aipcore.distributed.process_group import ProcessGroup
from aipcore.errors import AipError
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Layer
from aipcore.scenario import Evaluator
from aipcore.scenario.loader import loaded_class
from aipcore.training.checkpoint.format import newest_checkpoint, read_checkpoint
from aipcore.training.reporter import SAMPLES_PER_SECOND, Reporter, StepReport
from aipcore.training.request import make_request
from aipcore.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from small_scenarios import Blobs, NoisyBlobs, Pair

sys.path.insert(0, str(Path(__file__).parents[1] / "parity"))
from group_heads import group_heads

EVERYTHING = (
    "--optimizer.weight_decay", "0.01", "--optimizer.clip_global_norm", "0.5", "--optimizer.clip_value", "0.2",
    "--learning_rate", "WarmupCosineDecay", "--learning_rate.lr", "0.01", "--trainer.calc_ema", "0.9",
    "--trainer.epochs", "3",
)  # fmt: skip
STEPPED = ("--trainer.val_every_steps", "5", "--trainer.val_every_n", "1", "--trainer.log_every_steps", "4")
WAYS = ("none", "mirror", "central_storage")
GROUPS = (("none", 1), ("none", 2), ("mirror", 1), ("mirror", 2), ("central_storage", 2))
OPTIMIZERS = ("SGD", "Adam", "AdaBelief", "LAMB")


class Remembering(Evaluator):
    """A scenario that records its samples and their order."""

    def __init__(self) -> None:
        self.first: list[float] = []
        self.right = 0

    def update(self, targets: Any, outputs: Any, meta: Any) -> None:
        self.first += [float(value) for value in targets[""]]
        self.right += int((outputs[""].argmax(-1) == targets[""]).sum())

    def result(self) -> dict[str, float]:
        return {"share": self.right / len(self.first), "in_order": float(self.first == Blobs.val_labels())}


class Logged(Reporter):
    """Keeps the values logged by update."""

    def __init__(self) -> None:
        self.steps: list[list[float]] = []

    def step_logged(self, report: StepReport) -> None:
        values = {name: value for name, value in report.logs.items() if name != SAMPLES_PER_SECOND}
        self.steps.append([report.step, report.epoch, *values.values()])


class Evaluated(NoisyBlobs):
    """A scenario with batch normalisation, dropout, an evaluator, and a last batch of a single sample."""

    samples = 65

    @staticmethod
    def val_labels() -> list[float]:
        return [float(value) for value in Blobs.val_data(None)[1]]  # type: ignore[arg-type]

    def evaluator(self) -> Evaluator:
        return Remembering()


Blobs.val_labels = Evaluated.val_labels  # type: ignore[attr-defined]


def trainer(
    cls: type[Any],
    folder: Path | None,
    *words: str,
    processes: ProcessGroup | None = None,
    reporter: Reporter | None = None,
) -> Trainer:
    """Return a trainer of a scenario class with command-line parameters."""
    few = {
        "trainer.random_seed": 7,
        "trainer.jit_compile": "off",
        "trainer.epochs": 2,
        "trainer.skip_sanity_check": True,
    }
    first = Layer.from_mapping("test", few)
    request = make_request(loaded_class(cls, {}), [first, Layer.from_arguments(words)], get_plugin_manager())
    if folder is not None:
        folder.mkdir(exist_ok=True)
    return Trainer.from_request(request, output_dir=folder, name="test", processes=processes, reporter=reporter)


def distance(one: Trainer, other: Trainer) -> float:
    """Return the largest difference of weights, averages and optimizer states, relative to the largest value."""
    states = one.state.variables.read(), other.state.variables.read()
    worst = 0.0
    for name, value in states[0].items():
        if name.startswith(("model/", "optimizer/", "ema/")):
            scale = max(1e-3, float(np.abs(value).max()))
            worst = max(worst, float(np.abs(states[1][name].astype(float) - value.astype(float)).max()) / scale)
    return worst


def equal(one: Trainer, other: Trainer) -> bool:
    """Return True if all variables are bit-identical."""
    first, second = one.state.variables.read(), other.state.variables.read()
    return first.keys() == second.keys() and all(first[name].tobytes() == second[name].tobytes() for name in first)


def losses(history: list[dict[str, float]]) -> list[float]:
    """Return the values that users compare."""
    return [logs[name] for logs in history for name in ("loss", "val_loss", "accuracy", "val_accuracy") if name in logs]


def cases(folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield the cases, as pairs of a name and a result."""
    yield "compared", [OPTIMIZERS, WAYS[1:]]
    for optimizer in OPTIMIZERS:
        runs = {}
        for way in WAYS:
            logged = Logged()
            runs[way] = trainer(Blobs, None, "--optimizer", optimizer, *EVERYTHING, *STEPPED, "--device.strategy", way,
                                "--train.batch_size", "16", reporter=logged)  # fmt: skip
            result = runs[way].fit()
            yield f"losses {optimizer} {way}", losses(result.history)
            yield f"steps {optimizer} {way}", logged.steps
            yield f"validations {optimizer} {way}", [list(each.values()) for each in result.validations]
            if way != "none":
                yield f"distance {optimizer} {way}", distance(runs["none"], runs[way])
                yield f"traces {optimizer} {way}", runs[way].engine.loop.traces
    large = trainer(Blobs, None, *EVERYTHING, "--train.batch_size", "48")
    large.fit()
    for way in WAYS:
        small = trainer(Blobs, None, *EVERYTHING, "--train.batch_size", "12", "--trainer.accumulate_steps", "4",
                        "--device.strategy", way)  # fmt: skip
        small.fit()
        yield f"accumulated {way}", distance(large, small)
    for way in WAYS[1:]:
        words = ("--device.strategy", way, "--trainer.calc_ema", "0.9", "--trainer.ema_batch_norm",
                 "--train.batch_size", "4", "--trainer.accumulate_steps", "3", "--trainer.lav_every_n", "1",
                 "--checkpoint.keep", "9", "--trainer.epochs", "3", "--trainer.export_best", "False")  # fmt: skip
        whole = trainer(Evaluated, folder / f"whole-{way}", *words)
        history = whole.fit().history
        yield f"evaluated {way}", [[logs["lav_share"], logs["lav_accuracy"], logs["lav_in_order"]] for logs in history]
        again = trainer(Evaluated, folder / f"again-{way}", *words, "--trainer.export_final", "False")
        again.restore(sorted((folder / f"whole-{way}" / "checkpoint").iterdir())[-3])
        yield f"resumed in {way}", again.state.epoch
        yield f"history {way}", again.fit().history == history
        yield f"equal {way}", equal(whole, again)
        yield f"seeds {way}", sorted(name for name in whole.state.variables.read() if "seed" in name)
        serve = tf.saved_model.load(str(folder / f"whole-{way}" / "export")).signatures["serving_default"]
        points, labels = Blobs.val_data(None)  # type: ignore[arg-type]
        share = (serve(inputs=tf.constant(points))["outputs"].numpy().argmax(-1) == labels).mean()
        yield f"exported {way}", [float(share), history[-1]["val_accuracy"]]
        yield f"checkpoint {way}", newest_checkpoint(folder / f"again-{way}" / "checkpoint").name
    yield from moved(sorted((folder / "whole-mirror" / "checkpoint").iterdir())[-3])
    yield from same_losses()
    yield from same_updates()
    half = trainer(Blobs, None, "--device.strategy", "mirror", "--trainer.precision", "float16",
                   "--trainer.epochs", "6", "--learning_rate.lr", "0.01")  # fmt: skip
    yield "float16", half.fit().history[-1]["val_accuracy"]
    assert half.state.compilation is not None
    plan = dict(half.plan())
    yield "plan", [plan["device"], plan["loop"]]
    for words in (("--train.batch_size", "1"), ("--trainer.jit_compile", "on")):
        try:
            trainer(Blobs, None, "--device.strategy", "mirror", *words).fit()
        except AipError as error:
            yield f"refused {words[0]}", str(error)


def moved(checkpoint: Path) -> Iterator[tuple[str, Any]]:
    """Move the run of two devices to one device and back."""
    words = ("--trainer.calc_ema", "0.9", "--trainer.ema_batch_norm", "--train.batch_size", "4",
             "--trainer.accumulate_steps", "3")  # fmt: skip
    one = trainer(Evaluated, None, *words)
    one.restore(checkpoint)
    yield "moved compiled", one.state.compilation is not None
    one.state.compilation = one.compile()
    two = trainer(Evaluated, None, *words, "--device.strategy", "mirror")
    two.restore(one.state.snapshot({}))
    # The sums of metrics, which are reset in the next epoch, are on the first device now.
    stored, back = (
        {name: array.tobytes() for name, array in arrays.items() if not name.startswith("metrics/")}
        for arrays in (read_checkpoint(checkpoint).arrays, two.state.variables.read())
    )
    yield "moved different", sorted(name for name, _ in stored.items() ^ back.items())
    yield "moved loss", one.fit().history[-1]["loss"]


def same_losses() -> Iterator[tuple[str, Any]]:
    """Compare losses of every kind of denominator, in groups of batches and on replicas, with a partial last group."""
    cls, weights = group_heads()
    words = ("--optimizer", "SGD", "--learning_rate", "Constant", "--train.shuffle", "false", "--val.batch_size", "10",
             "--data.workers", "0", "--trainer.epochs", "1")  # fmt: skip
    for way, group in GROUPS:
        run = trainer(cls, None, *words, "--device.strategy", way, "--train.batch_size", str(10 // group),
                      "--trainer.accumulate_steps", str(group))  # fmt: skip
        history = run.fit().history
        yield f"heads {way} {group}", history
        yield f"head weights {way} {group}", [weight.ravel().tolist() for weight in weights(run)]


class DrawingPair(Pair):
    """Two updates, of which one draws numbers for each sample, on batches that do not split evenly."""

    def painter_loss(self, model: Any, inputs: Any, targets: Any, random: Any) -> Any:
        painted = model.get_layer("painter")(random.normal(3))
        return tf.nn.softplus(-model.get_layer("critic")(painted)[:, 0]) * (1 + random.uniform())


def same_updates() -> Iterator[tuple[str, Any]]:
    """Compare a run with several updates on several devices with that on one."""
    words = ("--train.batch_size", "7", "--updates.critic.times", "2", "--updates.painter.calc_ema", "0.9",
             "--updates.painter.optimizer.clip_global_norm", "0.1")  # fmt: skip
    runs = {way: trainer(DrawingPair, None, *words, "--device.strategy", way) for way in WAYS}
    histories = {way: run.fit().history for way, run in runs.items()}
    for way in WAYS[1:]:
        yield f"updates {way}", distance(runs["none"], runs[way])
        yield f"losses of updates {way}", [histories["none"], histories[way]]


if __name__ == "__main__":
    select_devices(DeviceParams(cpus=2))
    sys.stdout.write(json.dumps(dict(cases(Path(sys.argv[1])))))
