"""What a checkpoint costs: time per save, and the share of training time, beside Keras and Orbax.

    python benchmarks/checkpoint.py                  1 million weights
    python benchmarks/checkpoint.py --weights 100    100 million; needs about 6 GB of memory and 3 GB of disk

Each writes a dense network with Adam, so that three numbers per weight are saved. aip copies the state and lets a
thread write it with checksums and fsync; Keras writes in place and Orbax as its manager does by default. The share is
that of `--steps` training steps between two saves, during which the thread writes.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aipcore.devices.distribution import make_distribution
from aipcore.devices.workers import Workers
from aipcore.training.checkpoint import Checkpoint, write_checkpoint
from aipcore.training.saving import BackgroundWriter
from aipcore.training.state import VariableState


def network(millions: int) -> tuple[Any, Any]:
    """A network of about so many million weights, and its optimizer."""
    width = int((millions * 1e6 / 4) ** 0.5)
    model = keras.Sequential([keras.Input((width,)), *[keras.layers.Dense(width) for _ in range(4)]])
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, loss="mse")
    return model, optimizer


def seconds(function: Any) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", type=int, default=1, help="in millions")
    parser.add_argument("--saves", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200, help="training steps between two saves")
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    model, optimizer = network(arguments.weights)
    state = VariableState(
        {"model": model.variables, "optimizer": optimizer.variables},
        make_distribution("none", arguments.batch, Workers()),
    )
    size = sum(array.nbytes for array in state.read().values())
    print(f"{model.count_params():,} weights, {size / 2**20:,.0f} MiB of state with Adam")

    inputs = tf.constant(np.random.default_rng(0).normal(size=(arguments.batch, model.input_shape[1])), tf.float32)

    @tf.function
    def step() -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(inputs, training=True) - inputs))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    def steps() -> None:
        for _ in range(arguments.steps):
            step()
        optimizer.iterations.numpy()

    step()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copies, writes, keras_weights, keras_full = [], [], [], []
        for number in range(arguments.saves):
            start = time.perf_counter()
            taken = Checkpoint(arrays=state.read(), progress={})
            copies.append(time.perf_counter() - start)
            writes.append(seconds(lambda: write_checkpoint(folder / "aip", number, taken, keep=2)))  # noqa: B023
            keras_weights.append(seconds(lambda: model.save_weights(folder / "keras.weights.h5")))
            keras_full.append(seconds(lambda: model.save(folder / "keras.keras")))
        peer = statistics.median(keras_weights)
        print(f"aip, copy of the state (training waits)     {statistics.median(copies):8.3f} s")
        print(f"aip, write with checksums and fsync         {statistics.median(writes):8.3f} s (in the background)")
        print(f"keras.Model.save_weights, no optimizer      {peer:8.3f} s (training waits)")
        print(f"keras.Model.save, with optimizer            {statistics.median(keras_full):8.3f} s (training waits)")
        print(f"wait of aip / save_weights                  {statistics.median(copies) / peer:8.2f}")
        orbax(state, folder, arguments.saves)

        writer = BackgroundWriter()
        plain, saving = [], []
        for number in range(arguments.saves):
            plain.append(seconds(steps))

            def save_and_train(number: int = number) -> None:
                taken = Checkpoint(arrays=state.read(), progress={})
                writer.submit(lambda: write_checkpoint(folder / "share", number, taken, keep=2))
                steps()

            saving.append(seconds(save_and_train))
            writer.drain()
        alone, with_save = statistics.median(plain), statistics.median(saving)
        share = 100 * (with_save / alone - 1)
        print(f"{arguments.steps} steps: {alone:.2f} s alone, {with_save:.2f} s with a save: {share:+.1f} %")


def orbax(state: VariableState, folder: Path, saves: int) -> None:
    """The same arrays by Orbax, if it is installed."""
    if importlib.util.find_spec("orbax") is None:
        print("Orbax is not installed: skipped (pip install orbax-checkpoint)")
        return
    import orbax.checkpoint as ocp

    checkpointer = ocp.StandardCheckpointer()
    waits, writes = [], []
    for number in range(saves):
        start = time.perf_counter()
        checkpointer.save(folder / f"orbax-{number}", state.read())
        waits.append(time.perf_counter() - start)
        checkpointer.wait_until_finished()
        writes.append(time.perf_counter() - start)
    print(f"Orbax, until save() returns                 {statistics.median(waits):8.3f} s (training waits)")
    print(f"Orbax, until it is written                  {statistics.median(writes):8.3f} s")


if __name__ == "__main__":
    main()
