"""Blocks of batches, and their prefetching."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from aipcore.data.adapters import as_dataset
from aipcore.data.batching import Batching
from aipcore.data.loader import DataLoader, prefetch
from aipcore.data.sample import Sample
from aipcore.data.sampler import SampleOrder


def loader(size: int, batch_size: int, samples: int | None = None) -> DataLoader:
    """Return a loader of the numbers 0 to size - 1, in order."""
    dataset = as_dataset((np.arange(size)[:, None], np.arange(size)), "numbers")
    return DataLoader(
        dataset, SampleOrder(size, seed=0, shuffle=False), Batching(samples=samples or size, batch_size=batch_size)
    )


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
@pytest.mark.parametrize("first", [0, 1, 3, 4])
def test_blocks_hold_every_batch_once(chunk: int, first: int) -> None:
    """For any chunk and first batch, the batches are the same: four of 5 samples and one of 2."""
    batches = []
    for block in loader(22, 5).blocks(0, chunk=chunk, first=first):
        assert block.inputs[""].shape == (block.steps, block.batch_size, 1)
        assert block.steps <= chunk
        for step in range(block.steps):
            batches.append((block.first + step, block.targets[""][step].tolist()))
    expected = [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12, 13, 14], [15, 16, 17, 18, 19], [20, 21]]
    assert batches == list(enumerate(expected))[first:]


def test_padding_keeps_one_shape() -> None:
    """With padding, all blocks of full batches have one shape, and `steps` is the number of valid batches."""
    blocks = list(loader(22, 5).blocks(0, chunk=3, room=3))
    assert [block.inputs[""].shape for block in blocks] == [(3, 5, 1), (3, 5, 1), (1, 2, 1)]
    assert [block.steps for block in blocks] == [3, 1, 1]


def test_samples_of_varying_size_are_padded_batch_by_batch() -> None:
    """Each batch is padded with zeros to its largest sample, and each block has one batch."""
    samples = [Sample(inputs=np.ones(length, np.float32), targets=length) for length in (1, 3, 2, 5)]
    dataset = as_dataset(samples, "lines")
    assert dataset.specs()[0][""].shape == (None,)
    lines = DataLoader(dataset, SampleOrder(4, seed=0, shuffle=False), Batching(samples=4, batch_size=2))
    blocks = list(lines.blocks(0, chunk=9))
    assert [block.inputs[""].tolist() for block in blocks] == [
        [[[1, 0, 0], [1, 1, 1]]],
        [[[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]],
    ]


def feed_threads() -> list[threading.Thread]:
    """Return the running prefetching threads."""
    return [thread for thread in threading.enumerate() if thread.name == "aip-data-loader"]


def test_prefetch_ends_with_its_consumer() -> None:
    """If a consumer stops early, no thread is left, and at most a few items are read ahead."""
    read = []

    def source() -> Iterator[int]:
        for number in range(1000):
            read.append(number)
            yield number

    for value in prefetch(source(), lambda number: number * 2):
        if value == 10:
            break
    assert feed_threads() == []
    assert len(read) <= 10


def test_prefetch_hands_over_errors() -> None:
    """An error in the thread reaches the consumer after the preceding items."""

    def convert(number: int) -> int:
        if number == 2:
            raise KeyError("two")
        return number

    got: list[Any] = []
    with pytest.raises(KeyError, match="two"):
        got.extend(prefetch(iter(range(5)), convert))
    assert got == [0, 1]
    assert feed_threads() == []


def test_prefetch_works_ahead() -> None:
    """The next items are made while the consumer is busy."""
    made = threading.Event()

    def convert(number: int) -> int:
        if number == 1:
            made.set()
        return number

    iterator = prefetch(iter(range(3)), convert)
    next(iterator)
    assert made.wait(timeout=5)
    assert list(iterator) == [1, 2]
    time.sleep(0)
