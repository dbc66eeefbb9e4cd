"""Batch processors: their random numbers, and the independence of samples."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest

from aipcore.data.pipeline import Pipeline
from aipcore.data.random import BatchRandom
from aipcore.errors import DataError, ScenarioError
from aipcore.scenario import Processor, RandomBatchProcessor, RandomProcessor, Sample, SampleBatch

IMAGES = np.random.default_rng(0).random((40, 3, 4), np.float32)
DATA = {"image": IMAGES}, np.arange(40)


class Shift(RandomBatchProcessor):
    """A processor that adds a random number to each image, and another to each pixel."""

    def process(self, batch: SampleBatch, random: BatchRandom) -> SampleBatch:
        image = batch.inputs["image"] + random.uniform(-1, 1, 1, 1)
        return attrs.evolve(batch, inputs={"image": (image + random.normal(0, 0.1, 3, 4)).astype(np.float32)})


class Alone(RandomProcessor):
    """The first half of `Shift`, sample by sample, with NumPy's generator."""

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        image = sample.inputs["image"] + np.float64(rng.uniform(-1, 1))
        return attrs.evolve(sample, inputs={"image": image.astype(np.float32)})


class Together(RandomBatchProcessor):
    """The same as `Alone`, for a whole batch."""

    def process(self, batch: SampleBatch, random: BatchRandom) -> SampleBatch:
        image = batch.inputs["image"] + random.uniform(-1, 1, 1, 1)
        return attrs.evolve(batch, inputs={"image": image.astype(np.float32)})


class Scale(Processor):
    def process(self, sample: Sample) -> Sample:
        return attrs.evolve(sample, inputs={"image": sample.inputs["image"] * 2})


class Mean(RandomBatchProcessor):
    """An invalid processor: each sample depends on the others."""

    def process(self, batch: SampleBatch, random: BatchRandom) -> SampleBatch:
        return attrs.evolve(batch, inputs={"image": batch.inputs["image"] - batch.inputs["image"].mean()})


class Fails(RandomBatchProcessor):
    """A processor that fails for one image."""

    def process(self, batch: SampleBatch, random: BatchRandom) -> SampleBatch:
        if (batch.targets == 33).any():
            raise ValueError("no 33")
        return batch


def epoch(pipeline: Pipeline, number: int, chunk: int = 3) -> dict[int, Any]:
    """Return the images of an epoch, by target."""
    blocks = pipeline.loader(4, shuffle=True).blocks(number, chunk=chunk)
    return {
        int(target): image
        for block in blocks
        for target, image in zip(block.targets[""].ravel(), block.inputs["image"].reshape(-1, 3, 4), strict=True)
    }


def test_streams_equal_numpy() -> None:
    """Each row equals NumPy's Philox for the same key and counter, for any number of rows."""
    seed, visits, indices = 2**63 + 5, np.array([0, 1, 2**33]), np.array([7, 0, 2**50])
    random = BatchRandom(seed, visits, 2, indices)
    drawn = np.concatenate([random.random(3), random.random()[:, None], random.random(2, 3).reshape(3, 6)], axis=1)
    for row, visit, index in zip(drawn, visits, indices, strict=True):
        key, counter = np.array([seed, visit], np.uint64), np.array([0, 0, 3, index], np.uint64)
        philox = np.random.Philox(key=key, counter=counter)
        np.testing.assert_array_equal(row, np.random.Generator(philox).random(10))


def test_distributions() -> None:
    """Integers are uniform, and normal numbers have the expected moments and tails."""
    random = BatchRandom(1, np.zeros(50_000, np.int64), 0, np.arange(50_000))
    numbers = random.integers(-2, 3, 2)
    assert numbers.shape == (50_000, 2)
    counts = np.array([(numbers == value).sum() for value in range(-2, 3)])
    # Chi-squared with 4 degrees of freedom exceeds 18.5 once in 1,000 times; the seed is fixed.
    assert counts.sum() == 100_000
    assert ((counts - 20_000) ** 2 / 20_000).sum() < 18.5
    normal = random.normal(3.0, 2.0, 2)
    assert normal.mean() == pytest.approx(3, abs=0.03)
    assert normal.std() == pytest.approx(2, abs=0.03)
    assert (abs(normal - 3) > 2 * 1.959964).mean() == pytest.approx(0.05, abs=0.004)
    with pytest.raises(ValueError, match="high must be above low"):
        random.integers(3, 3)


@pytest.mark.parametrize("processors", [[Shift()], [Scale(), Shift()], [Shift(), Shift()]], ids=len)
def test_alone_and_together(processors: list[Any]) -> None:
    """An image is the same in blocks of any size and alone, and differs between epochs."""
    pipeline = Pipeline(DATA, processors, seed=3, workers=0)
    first = epoch(pipeline, 0)
    assert epoch(pipeline, 0, chunk=1).keys() == first.keys() == set(range(40))
    for number, image in first.items():
        np.testing.assert_array_equal(image, epoch(pipeline, 0, chunk=10)[number])
        np.testing.assert_array_equal(image, pipeline.sample(number).inputs["image"])
        assert (image != epoch(pipeline, 1)[number]).any()


def test_in_workers() -> None:
    """Workers make the same images, and so does a mixture with sample processors."""

    class Nothing(Processor):
        def process(self, sample: Sample) -> Sample:
            return sample

    here = epoch(Pipeline(DATA, [Scale(), Shift()], seed=3, workers=0), 2)
    with Pipeline(DATA, [Scale(), Shift()], seed=3, workers=2) as there:
        mixed = epoch(Pipeline(DATA, [Scale(), Shift(), Nothing()], seed=3, workers=0), 2)
        for number, image in epoch(there, 2).items():
            np.testing.assert_array_equal(image, here[number])
            np.testing.assert_array_equal(image, mixed[number])


def test_equals_a_processor_of_samples() -> None:
    """With the same random numbers, a batch processor gives the same results as a sample processor."""
    alone = epoch(Pipeline(DATA, [Alone()], seed=3, workers=0), 1)
    for number, image in epoch(Pipeline(DATA, [Together()], seed=3, workers=0), 1).items():
        np.testing.assert_array_equal(image, alone[number])


def test_dependent_samples(refused: Any) -> None:
    """A processor whose samples depend on each other is refused."""
    with refused(ScenarioError):
        Pipeline(DATA, [Mean()], workers=0).dataset()


def test_failing_sample(refused: Any) -> None:
    """The failing sample is named or left out."""
    with refused(DataError):
        epoch(Pipeline(DATA, [Fails()], workers=0), 0)
    pipeline = Pipeline(DATA, [Fails()], workers=0, on_error="skip")
    blocks = list(pipeline.loader(4).blocks(0, chunk=10))
    assert sorted(int(n) for block in blocks for n in block.targets[""].ravel()) == [*range(33), *range(34, 40)]
    assert "1 sample of the source was skipped" in str(pipeline.skipped())
