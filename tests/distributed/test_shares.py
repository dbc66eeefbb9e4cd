"""The share of each worker in a batch: its own samples, without overlap or loss."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest

from aipcore.data.batching import Batching
from aipcore.data.loader import Block, DataLoader
from aipcore.data.padding_sizes import size_of
from aipcore.data.pipeline import Pipeline
from aipcore.distributed.cluster import Cluster
from aipcore.distributed.process_group import ProcessGroup
from aipcore.distributed.strategy import Distribution
from aipcore.scenario import Processor, RandomProcessor, Sample, Stream

SAMPLES, BATCH = 23, 5


class Numbers:
    """Samples that are read by index."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> Sample:
        if index >= SAMPLES:
            raise IndexError(index)
        return Sample(inputs=np.full(3, index, np.float32), targets=np.int32(index), meta=index)


class Noted(Processor):
    """A processor that records its samples."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def process(self, sample: Sample) -> Sample:
        self.seen.append(int(sample.targets))
        return sample


class Jitter(RandomProcessor):
    """A processor that adds a number depending on seed, epoch and sample."""

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return attrs.evolve(sample, inputs=sample.inputs + rng.random(dtype=np.float32))


class Uneven(RandomProcessor):
    """A processor that gives samples a random length."""

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return attrs.evolve(sample, inputs=sample.inputs[: rng.integers(1, 4)])


class Unfit(Processor):
    """A processor that fails on every seventh sample."""

    def process(self, sample: Sample) -> Sample:
        if sample.meta % 7 == 3:
            raise ValueError("unfit")
        return sample


def distribution(index: int, count: int, devices: int) -> Distribution:
    """Return the split of batches for one of several workers with some devices, without connections."""
    made = Distribution(processes=ProcessGroup(Cluster(tuple(f"host:{n}" for n in range(count)), index)))
    made.devices = [""] * devices
    return made


def pipeline(kind: str, **how: Any) -> tuple[Pipeline, Noted]:
    """Return a pipeline whose samples are in memory, on demand, of several lengths, or partly unfit."""
    noted = Noted()
    processors = {"memory": [noted], "streamed": [noted, Jitter()], "uneven": [noted, Uneven()],
                  "uneven stream": [noted, Uneven()], "unfit": [noted, Unfit(), Jitter()]}  # fmt: skip
    how |= {"preload": "on" if kind == "memory" else "off", "on_error": "skip" if kind == "unfit" else "raise"}
    source = Stream(lambda: iter(Numbers()), length=SAMPLES) if kind == "uneven stream" else Numbers()
    return Pipeline(source, processors[kind], seed=3, **how), noted


def epoch(loader: DataLoader, number: int) -> list[Block]:
    """Return the blocks of an epoch that is shuffled and ends with a partial batch."""
    return list(loader.blocks(number, chunk=3))


@pytest.mark.parametrize("kind", ["memory", "streamed", "uneven", "uneven stream", "unfit"])
@pytest.mark.parametrize(("count", "devices"), [(2, 1), (3, 1), (4, 1), (2, 2)])
def test_parts_equal_the_whole_batch(kind: str, count: int, devices: int) -> None:
    """Parts are bit-identical to the whole, and each replica gets the same samples from either."""
    made, _ = pipeline(kind, workers=0)
    whole = made.loader(BATCH, shuffle=True)
    owns = [distribution(index, count, devices) for index in range(count)]
    loaders = [DataLoader(whole.dataset, whole.order, whole.batching, own.share) for own in owns]
    for number in (0, 2):
        epochs = [epoch(each, number) for each in (whole, *loaders)]
        for all_of_it, *blocks in zip(*epochs, strict=True):
            sizes = [size_of(block.sides, whole.dataset.specs()) for block in blocks]
            for index, (own, loader, given) in enumerate(zip(owns, loaders, blocks, strict=True)):
                block, size = loader.padded_alike(given, lambda *_, sizes=sizes: sizes), all_of_it.batch_size
                assert (block.first, block.steps, block.batch_size) == (all_of_it.first, all_of_it.steps, size)
                for local in range(devices):
                    part = own.samples_of(index * devices + local, size)
                    positions = list(range(part.start, part.stop)) or [0]
                    mine = own._part(block.inputs[""], 1, local)
                    np.testing.assert_array_equal(mine, all_of_it.inputs[""][:, positions])
                wanted = own.own_samples(size)
                np.testing.assert_array_equal(block.targets[""], all_of_it.targets[""][:, wanted])
                assert block.meta is not None
                assert list(block.meta) == block.targets[""].ravel().tolist()


@pytest.mark.parametrize("kind", ["streamed", "uneven"])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_each_sample_is_processed_once(count: int, kind: str) -> None:
    """Any number of workers processes each sample once, also in a partial last batch and in a resumed epoch."""
    seen: list[int] = []
    for index in range(count):
        made, noted = pipeline(kind, workers=0)
        loader = made.loader(BATCH, shuffle=True)
        loader.share = distribution(index, count, 1).share
        list(loader.blocks(0, chunk=1))
        noted.seen.clear()
        list(loader.blocks(1, chunk=2, first=2))
        seen += noted.seen
    missing = 0 if count < 4 else count - SAMPLES % BATCH
    first = made.loader(BATCH, shuffle=True).order.indices(SAMPLES + 2 * BATCH, 2 * SAMPLES)
    # The last batch has 3 samples: its first one fills the share of a fourth and a fifth worker.
    assert sorted(seen) == sorted([*first.tolist(), *[int(first[10])] * missing])


@pytest.mark.parametrize("processes", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_processes_of_a_worker_make_its_part_alone(processes: int) -> None:
    """Data workers make the same part for a training worker as the worker itself."""
    parts = []
    for workers in (0, processes):
        made, _ = pipeline("streamed", workers=workers)
        with made:
            loader = made.loader(BATCH, shuffle=True)
            loader.share = distribution(1, 2, 1).share
            parts.append([block.inputs[""].tolist() for block in loader.blocks(1, chunk=2)])
    assert parts[0] == parts[1]
    assert sum(len(step) for block in parts[0] for step in block) == 4 * 2 + 1


def test_a_batch_that_must_be_seen_whole_is() -> None:
    """If samples may be missing, all workers process all of them."""
    made, noted = pipeline("unfit", workers=0)
    loader = made.loader(BATCH)
    loader.share = distribution(0, 2, 1).share
    noted.seen.clear()
    list(loader.blocks(0, chunk=1))
    assert noted.seen == list(range(SAMPLES))


def test_samples_of_workers_cover_a_batch() -> None:
    """The samples cover batches of 1 to 30 samples for up to 6 workers with up to 3 devices."""
    for count in range(2, 7):
        for devices in range(1, 4):
            workers = [distribution(index, count, devices) for index in range(count)]
            for size in range(1, 31):
                positions = [worker.own_samples(size).tolist() for worker in workers]
                flat = [position for part in positions for position in part]
                assert flat[:size] == list(range(size))
                assert set(flat[size:]) <= {0}
                assert all(len(part) >= devices for part in positions)


def test_batching_counts_whole_batches() -> None:
    """Steps and sizes are those of the whole batch, not of a part."""
    loader = pipeline("streamed", workers=0)[0].loader(BATCH)
    loader.share = distribution(1, 2, 1).share
    assert loader.batching == Batching(samples=SAMPLES, batch_size=BATCH)
    assert [block.batch_size for block in loader.blocks(0, chunk=9)] == [5, 3]
