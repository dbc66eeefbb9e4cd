"""One worker of a run on several: trains with the others, and the chief prints the results as JSON.

Its arguments are a folder, `few` or `all`, `index` and the addresses of all workers. The chief also trains alone, on
one device, while the others wait for it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import keras
import numpy as np
import tensorflow as tf

from aipcore.distributed.cluster import SECRET, Cluster
from aipcore.distributed.devices import select_devices
from aipcore.distributed.params import DeviceParams
from aipcore.distributed.process_group import ProcessGroup
from aipcore.distributed.rendezvous import Tell
from aipcore.distributed.strategy import joined_processes
from aipcore.scenario import RandomProcessor, Sample
from aipcore.training.checkpoint.format import newest_checkpoint, read_checkpoint, write_checkpoint
from aipcore.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from several_devices import EVERYTHING, Evaluated, losses, trainer
from small_scenarios import CLASSES, Blobs, blobs

STREAMED = ("--train.preload", "off", "--val.preload", "off", "--data.workers", "0", "--trainer.epochs", "2")
SEVERAL = ("--device.strategy", "multi_worker")
SHARDED = ("--device.shard_optimizer", "true")


class Notes:
    """Samples that are read by index, with a record of the indices that were read."""

    def __init__(self, samples: int, seed: int) -> None:
        self.points, self.labels = blobs(samples, seed)
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        self.read.append(index)
        return Sample(inputs=self.points[index], targets=self.labels[index])


class RaggedNotes(Notes):
    """The same with samples of 2 to 4 rows, in an order in which the workers' shares differ in length."""

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return attrs.evolve(sample, inputs=sample.inputs.reshape(4, 3)[: 2 + index // 4 % 3])


class Jitter(RandomProcessor):
    """A processor that moves a point depending on the seed, the epoch and the sample."""

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return attrs.evolve(sample, inputs=sample.inputs + rng.normal(size=sample.inputs.shape).astype(np.float32))


class Streamed(Blobs):
    """A scenario whose samples are read and moved again in each epoch."""

    notes = Notes

    def train_data(self) -> Any:
        self.train = self.notes(50, 1)
        return self.train

    def val_data(self) -> Any:
        self.val = self.notes(33, 2)
        return self.val

    def processors(self) -> Any:
        return [Jitter()]


class Ragged(Streamed):
    """The same with samples of several lengths. The model depends on the padding of a batch."""

    notes = RaggedNotes

    def build(self, inputs: Any) -> Any:
        from keras import layers

        return layers.Dense(CLASSES)(layers.GlobalAveragePooling1D()(layers.Dense(4, activation="tanh")(inputs)))


class Start(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that clears the record of reads before the first epoch."""

    def __init__(self, scenario: Streamed) -> None:
        super().__init__()
        self.notes = scenario.train, scenario.val

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == 0:
            for each in self.notes:
                each.read.clear()


class Copy(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that writes a checkpoint after some batches of the run, within an epoch and a group of batches."""

    def __init__(self, run: Trainer, folder: Path, batches: int) -> None:
        super().__init__()
        self.run, self.folder, self.batches = run, folder, batches

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.run.state.batches == self.batches:
            state = self.run.state.snapshot(self.run.about)
            if self.run.processes.is_chief:
                write_checkpoint(self.folder, self.batches, state, keep=9)


class Together:
    """A factory of trainers for this worker."""

    def __init__(self, folder: Path, processes: ProcessGroup) -> None:
        self.folder = folder
        self.processes = processes

    def alone(
        self, cls: type[Any], *words: str, start: Path | None = None, copy_at: int | None = None
    ) -> Trainer | None:
        """Return a finished run of the chief on one device.

        Args:
            cls: the scenario.
            words: parameters.
            start: the checkpoint to begin with.
            copy_at: the batches after which a checkpoint is written to `moving`.
        """
        if not self.processes.is_chief:
            return None
        made = trainer(cls, None, *words)
        if copy_at is not None:
            made.callbacks["copy"] = Copy(made, self.moving, copy_at)
        if start is not None:
            made.restore(start)
        made.fit()
        return made

    @property
    def moving(self) -> Path:
        """The folder of the checkpoints of a run that continues on another number of devices."""
        return self.folder.parent / "moving"

    def trainer(self, cls: type[Any], output: str | None, *words: str) -> Trainer:
        """Return a trainer of all workers; only the chief has a folder."""
        folder = self.folder / output if output is not None and self.processes.is_chief else None
        return trainer(cls, folder, *words, *SEVERAL, processes=self.processes)


def moved(together: Together, words: tuple[str, ...], expected: Trainer | None) -> Iterator[tuple[str, Any]]:
    """Continue a run on all workers, and with four of them on one device; yield the results and those `expected`.

    The run has begun on one device, and continued on two for the four workers.
    """
    count = together.processes.count
    batches = {2: 23, 4: 39}[count]
    run = together.trainer(Blobs, None, *words, "--checkpoint.every_steps", str(batches % 17))
    run.callbacks["copy"] = Copy(run, together.moving, batches)
    run.restore(newest_checkpoint(together.moving))
    history = run.fit().history
    found = {f"on {count}": (history, run.state.variables.gather())}
    if expected is not None and count == 4:
        last = together.alone(Blobs, *words, start=newest_checkpoint(together.moving))
        assert last is not None
        found["on 1"] = last.state.history, last.state.variables.read()
    if expected is not None:
        for where, (history, state) in found.items():
            yield f"moved {where}", [losses(history), losses(expected.state.history)]
            yield f"moved distance {where}", distance(expected.state.variables.read(), state)


def distance(one: Any, other: Any) -> float:
    """Return the largest difference of weights, averages and optimizer states, relative to each one's largest value."""
    names = [name for name in one if name.startswith(("model/", "optimizer/", "ema/"))]
    return max(float(np.abs(one[n] - other[n]).max()) / max(1e-3, float(np.abs(one[n]).max())) for n in names)


def cases(together: Together, which: str) -> Iterator[tuple[str, Any]]:
    """Yield few or all cases, as pairs of a name and a result; all workers must compute all of them."""
    chief = together.processes.is_chief
    for name, cls, words in (
        ("everything", Blobs, (*EVERYTHING, "--train.batch_size", "16")),
        ("accumulated", Blobs, (*EVERYTHING, "--train.batch_size", "12", "--trainer.accumulate_steps", "4")),
        ("ragged", Ragged, (*STREAMED, "--train.batch_size", "12", "--val.batch_size", "8", "--optimizer", "SGD")),
        ("streamed", Streamed, (*STREAMED, "--train.batch_size", "12", "--val.batch_size", "8")),
    ):
        if which == "few" and name in ("accumulated", "streamed"):
            continue
        shared = together.trainer(cls, None, *words, *(SHARDED if EVERYTHING[0] in words else ()))
        if issubclass(cls, Streamed):
            shared.callbacks["start"] = Start(shared.scenario)
        history = shared.fit().history
        state = shared.state.variables.gather()
        copies = name == "accumulated" and together.processes.count == 2
        # A call of the loop ends where the copy is made.
        single = together.alone(cls, *words, "--checkpoint.every_steps", "7", copy_at=7 if copies else None)
        if single is not None:
            yield f"{name} together", losses(history)
            yield f"{name} alone", losses(single.state.history)
            yield f"{name} distance", distance(single.state.variables.read(), state)
            yield f"{name} traces", shared.engine.loop.traces
        if name == "accumulated":
            yield from moved(together, words, single)
        if EVERYTHING[0] in words:
            held = sum(variable.value.shape.num_elements() for variable in shared.engine.optimizer.variables)
            yield f"{name} held", together.processes.exchange("held", held)
        if issubclass(cls, Streamed):
            read = [shared.scenario.train.read, shared.scenario.val.read]
            yield f"{name} read", together.processes.exchange("read", read)

    words = ("--trainer.calc_ema", "0.9", "--trainer.ema_batch_norm", "--train.batch_size", "4",
             "--trainer.accumulate_steps", "3", "--trainer.lav_every_n", "1", "--checkpoint.keep", "9",
             "--trainer.epochs", "3", "--trainer.export_best", "False")  # fmt: skip
    # A checkpoint of a sharded optimizer is read without shards, and the other way round.
    first_words, second_words = (SHARDED, ()) if which == "few" else ((), SHARDED)
    whole = together.trainer(Evaluated, "whole", *words, *first_words)
    history = whole.fit().history
    again = together.trainer(Evaluated, "again", *words, *second_words, "--trainer.export_final", "False")
    checkpoints = together.folder / "whole" / "checkpoint"
    again.restore(sorted(checkpoints.iterdir())[1])
    yield "resumed in", again.state.epoch
    yield "same history", again.fit().history == history
    first, second = whole.state.variables.gather(), again.state.variables.gather()
    # The chief has all variables, the others their own.
    names = first if chief else first.keys() & second.keys()
    own = [name for name in names if first[name].tobytes() != second[name].tobytes()]
    yield (
        "different after resuming",
        [name for names in together.processes.exchange("different", own) for name in names],
    )
    yield "histories of all", [each == history for each in together.processes.exchange("history", history)]
    yield "evaluated", [[logs["lav_share"], logs["lav_accuracy"], logs["lav_in_order"]] for logs in history]
    yield "written by", [bool(each) for each in together.processes.exchange("saved", whole.output_dir is not None)]
    if chief:
        stored = read_checkpoint(sorted(checkpoints.iterdir())[-1])
        yield "seeds", sorted(name for name in stored.arrays if "seed" in name)
        plan = dict(whole.plan())
        yield "plan", plan["device"]
        yield "ports", [plan["ports"], *(address.rpartition(":")[2] for address in together.processes.addresses)]
        serve = tf.saved_model.load(str(together.folder / "whole" / "export")).signatures["serving_default"]
        points, labels = Blobs.val_data(None)  # type: ignore[arg-type]
        share = (serve(inputs=tf.constant(points))["outputs"].numpy().argmax(-1) == labels).mean()
        yield "exported", [float(share), history[-1]["val_accuracy"]]
    yield "waiting", together.processes.exchange("end", True)


def main() -> None:
    """Join the other workers and run all cases."""
    folder, which, index, *addresses = sys.argv[1:]
    Path(folder).mkdir(exist_ok=True)
    params = DeviceParams(strategy="multi_worker")
    select_devices(params)
    tell = Tell(note=lambda text: None, last_words=lambda text: None)
    cluster = Cluster(tuple(addresses), int(index), os.environ[SECRET])
    with joined_processes(params, cluster, tell) as processes:
        found = dict(cases(Together(Path(folder), processes), which))
        if processes.is_chief:
            sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
