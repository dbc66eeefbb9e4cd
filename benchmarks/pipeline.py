"""Samples per second of aip's data pipeline and of others on the same work, without training.

Two tasks of about 1 ms per sample, one in plain Python and one in NumPy, with 0, 1 and 2 workers (processes, or threads
for tf.py_function, which has no processes). Each number is the median of several rounds. In each round every pipeline
runs in its own process and is measured after its first batches. Each round also measures two concurrent plain loops,
the upper limit for any pipeline on this machine at this time.

Then: a trivial pipeline with `auto` workers and with none.

    python benchmarks/pipeline.py [--rounds 3] [--seconds 2] [--peers aip grain ...]
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from peers import machine

SAMPLES, BATCH, WORKERS = 1_000_000, 32, (0, 1, 2)


def python_task(index: int) -> tuple[Any, Any]:
    """Run pure Python, which holds the interpreter's lock throughout."""
    total = 0
    for number in range(22_000):
        total += number & index & 7
    return np.full(784, total, np.float32), np.int32(index % 10)


def numpy_task(index: int) -> tuple[Any, Any]:
    """Run a few large NumPy operations, which release the interpreter's lock."""
    grid = np.linspace(0, 1 + index % 7, 40_000, dtype=np.float32)
    for _ in range(2):
        grid = np.sort(np.sin(grid * 50)) + grid
    return grid[:784].copy(), np.int32(index % 10)


def trivial_task(index: int) -> tuple[Any, Any]:
    """Do almost nothing."""
    return np.full(784, index, np.float32), np.int32(index % 10)


TASKS: dict[str, Callable[[int], tuple[Any, Any]]] = {
    "python": python_task,
    "numpy": numpy_task,
    "trivial": trivial_task,
}


class Task:
    """A task with the methods that the pipelines expect."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return TASKS[self.name](int(index))

    def __call__(self, index: int) -> tuple[Any, Any]:
        """Make a sample; grain calls this."""
        return self[index]


def plain(task: Task, workers: int | str) -> Iterator[Any]:
    """Run a loop without a pipeline."""
    del workers
    for start in itertools.count(0, BATCH):
        yield [task[index] for index in range(start, start + BATCH)]


def aip(task: Task, workers: int | str) -> Iterator[Any]:
    """Run aip's pipeline, without caching."""
    from aipcore.data.pipeline import Pipeline
    from aipcore.data.sample import Sample

    class Indices:
        def __len__(self) -> int:
            return SAMPLES

        def __getitem__(self, index: int) -> Sample:
            return Sample(inputs=index)

    def process(sample: Sample) -> Sample:
        inputs, targets = task[sample.inputs]
        return Sample(inputs=inputs, targets=targets)

    with Pipeline(Indices(), [process], preload="off", workers=workers) as pipeline:  # type: ignore[arg-type]
        yield from pipeline.loader(BATCH).blocks(0, chunk=1)


def grain(task: Task, workers: int | str) -> Iterator[Any]:
    """Run grain, with batches made in its worker processes."""
    import grain as peer
    from absl import flags

    flags.FLAGS.mark_as_parsed()
    options = peer.ReadOptions(num_threads=0, prefetch_buffer_size=64)
    made = peer.MapDataset.source(np.arange(SAMPLES)).map(task).to_iter_dataset(options).batch(BATCH)
    if workers:
        made = made.mp_prefetch(peer.MultiprocessingOptions(num_workers=int(workers), per_worker_buffer_size=8))
    yield from made


def tf_py_function(task: Task, workers: int | str) -> Iterator[Any]:
    """Run tf.data, with the task in tf.py_function."""
    import tensorflow as tf

    def make(index: Any) -> Any:
        return tf.py_function(lambda each: task[int(each)], [index], (tf.float32, tf.int32))

    made = tf.data.Dataset.range(SAMPLES).map(make, num_parallel_calls=workers or None)
    yield from made.batch(BATCH).prefetch(8)


def keras_pydataset(task: Task, workers: int | str) -> Iterator[Any]:
    """Run Keras' own queue and processes, as Model.fit does for a PyDataset."""
    import keras
    from keras.src.trainers.data_adapters.py_dataset_adapter import OrderedEnqueuer

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return SAMPLES // BATCH

        def __getitem__(self, number: int) -> Any:
            rows = [task[index] for index in range(number * BATCH, (number + 1) * BATCH)]
            return np.stack([inputs for inputs, _ in rows]), np.stack([targets for _, targets in rows])

    if not workers:
        batches = Batches()
        yield from (batches[number] for number in range(len(batches)))
        return
    queue = OrderedEnqueuer(Batches(workers=int(workers), use_multiprocessing=True, max_queue_size=8), shuffle=False)
    queue.start()
    try:
        yield from queue.get()
    finally:
        queue.stop()


def torch_dataloader(task: Task, workers: int | str) -> Iterator[Any]:
    """Run PyTorch's DataLoader."""
    from torch.utils.data import DataLoader

    yield from DataLoader(task, batch_size=BATCH, num_workers=int(workers))  # type: ignore[arg-type]


PEERS = {"aip": aip, "grain": grain, "tensorflow": tf_py_function, "keras": keras_pydataset, "torch": torch_dataloader}


def rate(name: str, task: str, workers: str, seconds: float) -> float:
    """Return samples per second, after the first batches."""
    made = {**PEERS, "plain": plain}[name](Task(task), workers if workers == "auto" else int(workers))
    for _ in range(24):
        next(made)
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        next(made)
        count += BATCH
    return count / (time.perf_counter() - begun)


def start(*words: object) -> subprocess.Popen[str]:
    """Start this program for one measurement."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, __file__, "--one", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def result(process: subprocess.Popen[str]) -> float:
    """Return the result of a measurement."""
    output, errors = process.communicate()
    if process.returncode:
        sys.exit(errors)
    return float(output.split()[-1])


def compare(task: str, peers: list[str], rounds: int, seconds: float) -> None:
    """Print the samples per second of all pipelines, and the ratios."""
    found: dict[tuple[str, int], list[float]] = {(peer, count): [] for peer in peers for count in WORKERS}
    two: list[float] = []
    for _ in range(rounds):
        alone = result(start("plain", task, 0, seconds))
        both = [start("plain", task, 0, seconds) for _ in range(2)]
        two.append(sum(result(each) for each in both) / alone)
        for (peer, count), rates in found.items():
            rates.append(result(start(peer, task, count, seconds)))
    medians = {key: statistics.median(rates) for key, rates in found.items()}
    print(
        f"\n{task} task, samples/s{'':<14}"
        + "".join(f"{count} worker{'s' * (count != 1)}".rjust(14) for count in WORKERS)
    )
    for peer in peers:
        print(f"  {peer:<32}" + "".join(f"{medians[peer, count]:14,.0f}" for count in WORKERS))
    gain = statistics.median(b / a for a, b in zip(found["aip", 1], found["aip", 2], strict=True))
    limit = statistics.median(two)
    print(f"  aip, 2 workers vs. 1 worker: {gain:.2f} times (two concurrent plain loops: {limit:.2f} times one)")
    for count in WORKERS:
        others = {peer: medians[peer, count] for peer in peers if peer != "aip"}
        if others:
            best = max(others, key=others.__getitem__)
            ratio = medians["aip", count] / others[best]
            print(f"  {count} worker{'s' * (count != 1)}, aip vs. the best peer ({best}): {ratio:.2f} times")


def compare_trivial(rounds: int, seconds: float) -> None:
    """Print the cost of `auto` where workers do not pay off."""
    found: dict[object, list[float]] = {"auto": [], 0: []}
    for _ in range(rounds):
        for workers, rates in found.items():
            rates.append(result(start("aip", "trivial", workers, seconds)))
    ratio = statistics.median(found[0]) / statistics.median(found["auto"])
    print(f"\ntrivial task, time with auto workers vs. none: {ratio:.2f} times (limit 1.2)")


def main() -> None:
    """Run the comparisons and print them."""
    parser = argparse.ArgumentParser(description="Compare the throughput of data pipelines.")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of measurement (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2, help="seconds per measurement (default: %(default)g)")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), help="pipelines (default: all)")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        name, task, workers, seconds = arguments.one
        print(rate(name, task, workers, float(seconds)), flush=True)
        return
    print(machine("aipcore", "numpy"))
    peers = ["aip"]
    for peer in arguments.peers:
        if importlib.util.find_spec(peer) is None and peer != "aip":
            print(f"{peer} is not installed: skipped")
        elif peer != "aip":
            peers.append(peer)
    for task in ("python", "numpy"):
        compare(task, peers, arguments.rounds, arguments.seconds)
    compare_trivial(arguments.rounds, arguments.seconds)


if __name__ == "__main__":
    main()
