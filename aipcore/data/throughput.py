"""Measurement of a data pipeline: samples per second, and the time of each part."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing

import attrs
import numpy as np

from aipcore.data.batching import Collector
from aipcore.data.dataset import Dataset
from aipcore.data.loader import Block, DataLoader
from aipcore.data.parallel import ParallelDataset
from aipcore.data.processed import GeneratedSamples
from aipcore.data.processing import SampleError

FULL = 0.8
"""Share of finished batches from which the pipeline counts as ahead of the model."""


@attrs.frozen
class Share:
    """The time of one part of the work on a sample, in seconds per sample."""

    name: str
    seconds: float


def shares(dataset: Dataset, *, samples: int = 5000, seconds: float = 1.0) -> list[Share]:
    """Time each part of the work on a sample in this process; return nothing for data in memory.

    Args:
        dataset: the samples.
        samples: the number of samples to time, evenly spaced.
        seconds: the time limit.
    """
    if not isinstance(dataset, ParallelDataset):
        return []
    made = dataset.dataset.samples
    before = made.processors.generating if isinstance(made.source, GeneratedSamples) else []
    names = ["reading" + "".join(f", {processor.name}" for _, processor in before)]
    names += [processor.name for _, processor in made.part]
    spent = [0.0] * (len(names) + 1)
    count, end = 0, time.perf_counter() + seconds
    for index in np.linspace(0, len(dataset) - 1, min(samples, len(dataset)), dtype=np.int64).tolist():
        marks = [time.perf_counter()]
        try:
            sample = made.source[index]
            marks.append(time.perf_counter())
            for each in made.part:
                sample = made.process([each], sample, index)
                marks.append(time.perf_counter())
            Collector(dataset.dataset.layout, 1).add(sample, index)
        except SampleError:
            # With --data.on_error raise, the pipeline itself reports the error.
            continue
        marks.append(time.perf_counter())
        spent = [sum(pair) for pair in zip(spent, np.diff(marks).tolist(), strict=True)]
        count += 1
        if marks[-1] > end:
            break
    return [Share(name, total / max(count, 1)) for name, total in zip([*names, "batching"], spent, strict=True)]


def endless(loader: DataLoader, *, chunk: int) -> Generator[Block, None, None]:
    """Yield the blocks of one epoch after another."""
    epoch = 0
    while True:
        with closing(loader.blocks(epoch, chunk=chunk)) as blocks:
            yield from blocks
        epoch += 1


def size_of(block: Block) -> int:
    """Return the size of a block in bytes."""
    return sum(column.nbytes for columns in (block.inputs, block.targets, block.weights) for column in columns.values())


def verdict(parts: list[Share], *, workers: int, filled: float, data: float, model: float | None) -> str:
    """Return a sentence that names the bottleneck of training, or of the pipeline alone.

    Args:
        parts: the parts of the work on a sample; empty if the samples are in memory.
        workers: number of worker processes.
        filled: the share of prefetched batches that were ready when the next one was requested.
        data: samples per second of the pipeline.
        model: samples per second of the model, or None if not measured.
    """
    if model is not None and model <= data:
        return (
            f"The model is the bottleneck: it processes {model:,.0f} samples/s, and the data pipeline delivers "
            f"{data:,.0f} samples/s."
        )
    start = "The data pipeline is limited by"
    if model is not None:
        start = (
            f"The data pipeline is the bottleneck: the model processes {model:,.0f} samples/s. The pipeline is limited "
            "by"
        )
    if not parts:
        return f"{start} the gathering of batches in memory."
    if workers and filled >= FULL:
        return f"{start} the transfer of batches from the worker processes, which have batches ready."
    longest = max(parts, key=lambda part: part.seconds)
    share = longest.seconds / max(sum(part.seconds for part in parts), 1e-12)
    hint = "" if workers else " Set --data.workers to share the work among worker processes."
    return f"{start} {longest.name}, which takes {share:.0%} of the time per sample.{hint}"
