"""Cost of a checkpoint: time per save and share of training time, compared with Keras and Orbax.

    python benchmarks/checkpoint.py                  1 and 100 million weights; needs 6 GB of memory and 8 GB of disk
    python benchmarks/checkpoint.py --weights 1

A dense network is trained with Adam and saved. Its state has three numbers per weight. aip, Orbax and
`keras.Model.save` save all of them; `keras.Model.save_weights` saves only the weights, a third. Each time is the median
of `--saves`.

waits       time that training waits for the save call
on disk     time from that call until everything is written, with no other load; aip and Keras with default settings,
            so only aip computes checksums and waits for the disk (fsync)
costs       extra training time per save, including the slowdown by a background writer thread
share       cost as a share of the `--steps` training steps between two saves
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from peers import machine

from aipcore.distributed.params import DeviceParams
from aipcore.distributed.process_group import ProcessGroup
from aipcore.distributed.strategy import make_distribution
from aipcore.training.checkpoint.format import Checkpoint, write_checkpoint
from aipcore.training.checkpoint.run_writer import BackgroundWriter
from aipcore.training.variables import VariableState, by_path

Save = Callable[[int], Callable[[], object]]
"""Performs the n-th save. Returns a function that waits until everything is written."""


def network(millions: int) -> tuple[Any, Any]:
    """Return a network with about this many million weights, and its optimizer."""
    width = int((millions * 1e6 / 4) ** 0.5)
    model = keras.Sequential([keras.Input((width,)), *[keras.layers.Dense(width) for _ in range(4)]])
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, loss="mse")
    return model, optimizer


def savers(model: Any, state: VariableState, folder: Path) -> dict[str, Save]:
    """Return the save functions by name."""
    writer = BackgroundWriter()

    def aip(number: int) -> Callable[[], object]:
        taken = Checkpoint(arrays=state.read(), progress={})
        writer.submit(lambda: write_checkpoint(folder / "aip", number, taken, keep=1))
        return writer.drain

    def weights(number: int) -> Callable[[], object]:
        del number
        model.save_weights(folder / "keras.weights.h5")
        return lambda: None

    def whole(number: int) -> Callable[[], object]:
        del number
        model.save(folder / "keras.keras")
        return lambda: None

    found: dict[str, Save] = {"aip": aip, "Keras save_weights": weights, "Keras save": whole}
    if importlib.util.find_spec("orbax") is None:
        print("Orbax is not installed: skipped. To include it: pip install orbax-checkpoint")
        return found
    import orbax.checkpoint as ocp

    def orbax(checkpointer: Any, name: str, number: int) -> Callable[[], object]:
        shutil.rmtree(folder / f"{name}-{number - 1}", ignore_errors=True)
        checkpointer.save(folder / f"{name}-{number}", args=ocp.args.PyTreeSave(state.read()))
        return getattr(checkpointer, "wait_until_finished", lambda: None)

    blocking = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
    background = ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler())
    return found | {
        "Orbax Checkpointer": partial(orbax, blocking, "blocking"),
        "Orbax AsyncCheckpointer": partial(orbax, background, "background"),
    }


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def peak() -> int:
    """Return the peak memory of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10


def compare(millions: int, *, saves: int, steps: int, batch: int) -> None:
    """Print the table for one size."""
    model, optimizer = network(millions)
    state = VariableState(
        {
            "model": by_path(model.variables, "the model"),
            "optimizer": by_path(optimizer.variables, "the optimizer"),
        },
        make_distribution(DeviceParams(), batch, ProcessGroup()),
    )
    size = sum(array.nbytes for array in state.read().values())
    inputs = tf.constant(np.random.default_rng(0).normal(size=(batch, model.input_shape[1])), tf.float32)

    @tf.function
    def step() -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(inputs, training=True) - inputs))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    def train(count: int) -> None:
        for _ in range(count):
            step()
        optimizer.iterations.numpy()

    train(3)
    with tempfile.TemporaryDirectory() as name:
        ways = savers(model, state, Path(name))
        before = peak()
        finish = ways["aip"](0)
        train(3)
        finish()
        print(
            f"\n{model.count_params():,} weights, {size / 2**20:,.0f} MiB of state with Adam, batches of {batch}; "
            f"a save by aip adds {peak() - before:,} MiB to the peak of {before:,} MiB"
        )
        written: dict[str, list[float]] = {way: [] for way in ways}
        behind: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(1, saves + 1):
            for way, save in ways.items():
                start = time.perf_counter()
                finish = save(number)
                behind[way].append(seconds(finish))
                written[way].append(time.perf_counter() - start)
        each = seconds(lambda: train(3)) / 3
        plain: list[float] = []
        waits: dict[str, list[float]] = {way: [] for way in ways}
        costs: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(saves + 1, 2 * saves + 1):
            for way, save in ways.items():
                # Run enough steps for a background write to finish.
                count = min(steps, 3 + round(1.5 * statistics.median(behind[way]) / each))
                alone = seconds(partial(train, count))
                plain.append(alone / count)
                start = time.perf_counter()
                finish = save(number)
                waits[way].append(time.perf_counter() - start)
                train(count)
                costs[way].append(time.perf_counter() - start - alone)
                finish()
    each = statistics.median(plain)
    print(f"one step takes {1e3 * each:.0f} ms, {steps} steps take {steps * each:.1f} s\n")
    print(f"| {'':<24} |    waits |  on disk |    costs |  share | waits / save_weights   |")
    print("|---|---|---|---|---|---|")
    peer = statistics.median(waits["Keras save_weights"])
    for way in ways:
        wait, disk, cost = (statistics.median(times[way]) for times in (waits, written, costs))
        print(
            f"| {way:<24} | {wait:6.3f} s | {disk:6.3f} s | {cost:6.3f} s | {100 * cost / (steps * each):4.1f} % "
            f"| {wait / peer:22.3f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=int, nargs="+", default=[1, 100], help="weights in millions (default: 1 100)")
    parser.add_argument("--saves", type=int, default=5, help="saves per method (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="training steps between saves (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="batch size (default: %(default)s)")
    given = parser.parse_args()
    print(machine("aipcore", "tensorflow", "keras"))
    for millions in given.weights:
        compare(millions, saves=given.saves, steps=given.steps, batch=given.batch)


if __name__ == "__main__":
    main()
