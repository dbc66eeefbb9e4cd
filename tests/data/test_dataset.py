"""The contract of `Dataset`, for each subclass: a batch is its samples, stacked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import pytest

from aipcore.data.adapters import as_dataset
from aipcore.data.dataset import Dataset
from aipcore.data.device_cache import IndexDataset
from aipcore.data.parallel import ParallelDataset
from aipcore.data.pipeline import Pipeline
from aipcore.data.random import BatchRandom
from aipcore.data.sampler import Visits
from aipcore.scenario import ColumnSpec, RandomBatchProcessor, RandomProcessor, Sample, SampleBatch

SIZE = 7


class Jitter(RandomProcessor):
    """A processor with a different random value on each visit."""

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Add a number."""
        return attrs.evolve(sample, inputs=sample.inputs + np.float32(rng.uniform()))


class JitterBatches(RandomBatchProcessor):
    """The same processor for whole batches."""

    def process(self, batch: SampleBatch, random: BatchRandom) -> SampleBatch:
        """Add a number to each sample."""
        return attrs.evolve(batch, inputs=(batch.inputs + random.random(1)).astype(np.float32))


class Lines:
    """Samples by index, of one length or of several."""

    def __init__(self, *, ragged: bool) -> None:
        self.ragged = ragged

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> Sample:
        length = index % 3 + 1 if self.ragged else 3
        return Sample(inputs=np.full(length, index, np.float32), targets=index, meta=f"line {index}", weight=index / 2)


RAGGED = {"": ColumnSpec(shape=(None,), dtype="float32")}, {"": ColumnSpec(shape=(), dtype="int64")}


def on_demand(processors: list[Any], *, ragged: bool = False) -> Dataset:
    """Return samples that are made on demand."""
    specs = RAGGED if ragged else None
    pipeline = Pipeline(Lines(ragged=ragged), processors, seed=3, preload="off", specs=specs, workers=0)
    return pipeline.dataset()


def made_here(dataset: Dataset) -> Dataset:
    """Return the dataset that is sent to workers."""
    assert isinstance(dataset, ParallelDataset)
    return dataset.dataset


def in_memory(*, ragged: bool) -> Any:
    """Return samples in memory."""
    return as_dataset(Lines(ragged=ragged), "lines")


DATASETS = {
    "arrays": lambda: in_memory(ragged=False),
    "ragged": lambda: in_memory(ragged=True),
    "indices": lambda: IndexDataset(in_memory(ragged=False)),
    "read on demand": lambda: on_demand([]),
    "processed": lambda: made_here(on_demand([Jitter()])),
    "processed, ragged": lambda: made_here(on_demand([Jitter()], ragged=True)),
    "processed as arrays": lambda: Pipeline((np.ones((SIZE, 2)), np.arange(SIZE)), [JitterBatches()]).dataset(),
    "parallel": lambda: on_demand([Jitter()]),
    "parallel, ragged": lambda: on_demand([Jitter()], ragged=True),
}


def padded(values: list[Any]) -> Any:
    """Stack arrays, padded with zeros."""
    arrays = [np.asarray(value) for value in values]
    longest = max(array.size for array in arrays)
    if not arrays[0].ndim:
        return np.stack(arrays)
    return np.stack([np.pad(array, (0, longest - array.size)) for array in arrays])


@pytest.mark.parametrize("kind", DATASETS)
def test_a_batch_is_its_samples(kind: str) -> None:
    """Batches are correct for any epochs, any order and with prefetching; specs, lengths and first samples match."""
    dataset = DATASETS[kind]()
    assert len(dataset) == SIZE
    indices, epochs = np.asarray([5, 0, 5, 3]), np.asarray([0, 2, 1, 0])
    batch = dataset.batch(indices, epochs)
    (ahead,) = dataset.batches([Visits(indices=indices, epochs=epochs)])
    samples = [dataset.sample(*pair) for pair in zip(indices.tolist(), epochs.tolist(), strict=True)]
    values = {
        "inputs": [sample.inputs for sample in samples],
        "targets": [sample.targets for sample in samples],
        "weights": [sample.weight for sample in samples],
    }
    for (side, given), specs in zip(values.items(), dataset.specs(), strict=True):
        columns = getattr(batch, side)
        assert columns.keys() == specs.keys() == getattr(ahead, side).keys()
        for name, column in columns.items():
            wanted = padded([value[name] if isinstance(value, Mapping) else value for value in given])
            np.testing.assert_array_equal(column, wanted)
            np.testing.assert_array_equal(column, getattr(ahead, side)[name])
            assert column.dtype == specs[name].dtype
            assert dataset.uniform is (None not in dataset.specs()[0][name].shape) or side != "inputs"
    assert list(batch.meta or [None] * 4) == [sample.meta for sample in samples]
    assert batch.kept is None
    assert not batch.errors
    first = dataset.batch(np.arange(SIZE))
    if kind != "indices":
        sizes = [np.size(dataset.sample(index).inputs) for index in range(SIZE)]
        assert dataset.lengths().tolist() == sizes
        np.testing.assert_array_equal(dataset.known().batch(np.arange(SIZE)).inputs[""], first.inputs[""])
    if "processed" in kind or "parallel" in kind:
        assert batch.inputs[""][0, 0] != batch.inputs[""][2, 0], "another epoch draws other numbers"
