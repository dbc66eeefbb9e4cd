"""Sizes that batches are padded to: few, with little padding, and without any other effect on a batch."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest

from aipcore.data.adapters import as_dataset
from aipcore.data.batching import Batching
from aipcore.data.loader import DataLoader
from aipcore.data.padding_sizes import ENOUGH, choose_sizes, describe_sizes, elements_of, fitting_size
from aipcore.data.pipeline import Pipeline
from aipcore.data.sample import ColumnSpec, Sample
from aipcore.data.sampler import SampleOrder
from aipcore.scenario import Stream

TEXT = ({"": ColumnSpec(shape=(None,), dtype="int32")}, {"": ColumnSpec(shape=(), dtype="int32")}, {})
SPEECH = (
    {"sound": ColumnSpec(shape=(None, 8), dtype="float32")},
    {"text": ColumnSpec(shape=(None,), dtype="int32")},
    {},
)


def padded_elements(sizes: Any, seen: Any, elements: Any) -> int:
    """Return the elements of all batches in the sizes that they are padded to."""
    return sum(elements(fitting_size(sizes, each)) for each in seen)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_least_padding(most: int) -> None:
    """No other division of the sorted batches has fewer elements, and none with fewer sizes is good enough."""
    elements = elements_of(TEXT)
    for seed in range(5):
        seen = [(int(length),) for length in np.random.default_rng(seed).lognormal(3, 1, 12) + 1]
        sizes = choose_sizes(seen, elements, most)
        least = {
            count: min(
                padded_elements([ordered[end - 1] for _, end in pairwise((0, *cuts, len(seen)))], seen, elements)
                for cuts in combinations(range(1, len(seen)), count - 1)
            )
            for ordered in [sorted(seen)]
            for count in range(1, most + 1)
        }
        enough = (1 + ENOUGH) * sum(map(elements, seen))
        expected = next((value for value in least.values() if value <= enough), least[most])
        assert padded_elements(sizes, seen, elements) == expected
        assert len(sizes) <= next((count for count, value in least.items() if value <= enough), most)


def test_few_sizes_for_several_axes() -> None:
    """Lengths of inputs and targets that do not depend on each other need no more sizes, and each batch has one."""
    elements = elements_of(SPEECH)
    assert elements((10, 3)) == 83
    random = np.random.default_rng(1)
    seen = [tuple(pair) for pair in random.integers(5, 200, (64, 2)).tolist()]
    sizes = choose_sizes(seen, elements, 6)
    assert len(sizes) <= 6
    assert [elements(size) for size in sizes] == sorted(elements(size) for size in sizes)
    assert all(fitting_size(sizes, each) is not None for each in seen)
    assert sizes == choose_sizes(reversed(seen), elements, 6)
    assert fitting_size(sizes, (10_000, 1)) is None
    assert describe_sizes([(8, 2), (9, 3)]) == "8x2, 9x3"


def test_batches_of_one_size() -> None:
    """Batches that do not differ have one size, and no batch has more elements than before."""
    assert choose_sizes([(7,)] * 9, elements_of(TEXT), 8) == ((7,),)


def loader() -> DataLoader:
    """Return a loader of four full batches of 2 texts, padded with 9, and one of a single text."""
    samples = [
        Sample(inputs=np.full(length, 1, np.int32), targets=np.full(length, 2, np.int32), weight=np.ones(length))
        for length in (1, 3, 2, 5, 4, 4, 6, 1, 2)
    ]
    pipeline = Pipeline(samples, padding={"inputs": 9})
    return DataLoader(pipeline.dataset(), SampleOrder(9, seed=0, shuffle=False), Batching(samples=9, batch_size=2))


def test_blocks_have_the_sizes() -> None:
    """Full batches are padded with the padding values to the next size. Others keep the size of their longest text."""
    sizes = [(4, 4, 4), (5, 5, 5)]
    blocks = list(loader().blocks(0, chunk=3, room=3, sizes=sizes))
    assert [block.inputs[""].shape for block in blocks] == [(1, 2, 4), (1, 2, 5), (1, 2, 4), (1, 2, 6), (1, 1, 2)]
    assert [block.fixed for block in blocks] == [True, True, True, False, False]
    assert blocks[0].inputs[""].tolist() == [[[1, 9, 9, 9], [1, 1, 1, 9]]]
    assert blocks[0].targets[""].tolist() == [[[2, 0, 0, 0], [2, 2, 2, 0]]]
    assert blocks[0].weights[""].tolist() == [[[1, 0, 0, 0], [1, 1, 1, 0]]]
    assert not any(block.fixed for block in loader().blocks(0, chunk=3))
    # From another batch on, as after a resume.
    later = list(loader().blocks(0, chunk=1, first=2, sizes=sizes))
    assert [block.inputs[""].tolist() for block in later] == [block.inputs[""].tolist() for block in blocks[2:]]


def test_blocks_of_one_shape_are_fixed() -> None:
    """Full batches of samples of one shape are fixed without any size, and a smaller last batch is not."""
    dataset = as_dataset((np.arange(7)[:, None], np.arange(7)), "numbers")
    numbers = DataLoader(dataset, SampleOrder(7, seed=0, shuffle=False), Batching(samples=7, batch_size=3))
    assert [block.fixed for block in numbers.blocks(0, chunk=2)] == [True, False]


def test_batches_spread_over_an_epoch() -> None:
    """Batches come from the whole epoch if samples are read by index, and else from its start."""
    assert [block.first for block in loader().spread_blocks(2)] == [0, 3]
    assert [block.first for block in loader().spread_blocks(9)] == [0, 1, 2, 3]
    texts = [(np.ones(1 + n % 5, np.float32), np.int32(n)) for n in range(40)]
    stream = Pipeline(Stream(lambda: iter(texts), length=40)).loader(4)
    assert [block.first for block in stream.spread_blocks(3)] == [0, 1, 2]
    # The epoch begins at its first sample afterwards.
    first = next(stream.blocks(0, chunk=1))
    assert first.targets[""].tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(("window", "preload"), [(0, "on"), (4, "on"), (4, "off")])
def test_batches_spread_over_lengths(window: int, preload: Any) -> None:
    """If lengths are known, few batches include the shortest and the longest one, and later epochs fit their sizes."""
    lengths = [*range(2, 62), 400, 90, 80, 70]

    class Texts:
        def __len__(self) -> int:
            return len(lengths)

        def __getitem__(self, index: int) -> Sample:
            return Sample(inputs=np.ones(lengths[index], np.int32), targets=np.int32(0))

    loader = Pipeline(Texts(), seed=1, preload=preload).loader(4, shuffle=True, bucket_window=window)

    def seen(blocks: Any) -> list[int]:
        return [block.inputs[""].shape[2] for block in blocks]

    chosen, epoch = seen(loader.spread_blocks(3)), seen(loader.blocks(0, chunk=1))
    assert len(chosen) == 3
    assert {min(chosen), max(chosen)} == {min(epoch), max(epoch)}
    sizes = choose_sizes([(length,) for length in chosen], elements_of(TEXT), 8)
    assert all(block.fixed for number in range(3) for block in loader.blocks(number, chunk=1, sizes=sizes))
