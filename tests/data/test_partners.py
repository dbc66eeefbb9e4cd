"""Partners of random processors: further samples, drawn as functions of seed, epoch and index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs
import numpy as np
import pytest

from aipcore.data import throughput
from aipcore.data.pipeline import Pipeline
from aipcore.data.processor import as_processors
from aipcore.data.worker_pool import WorkerPool
from aipcore.errors import DataError, ScenarioError
from aipcore.scenario import (
    GeneratingProcessor,
    Mode,
    Processor,
    RandomBatchProcessor,
    RandomProcessor,
    Sample,
    SampleBatch,
    Scenario,
    Stream,
)

SEED, SIZE = 5, 23


class Files:
    """Samples read by index: one number, which is also the target."""

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> Sample:
        return Sample(inputs=np.float64([index]), targets=np.float64([index, -1, -1, -1]), meta=index)


class Double(Processor):
    def process(self, sample: Sample) -> Sample:
        return attrs.evolve(sample, inputs=sample.inputs * 2)


class Noise(RandomProcessor):
    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return attrs.evolve(sample, inputs=sample.inputs + rng.random(1))


class Pair(RandomProcessor):
    """A processor that adds the inputs of two partners, and shows their indices and its next random number."""

    partners = 2

    def process(self, sample: Sample, rng: np.random.Generator, *partners: Sample) -> Sample:
        one, two = partners
        targets = np.float64([sample.targets[0], one.targets[0], two.targets[0], rng.random()])
        return attrs.evolve(sample, inputs=sample.inputs + 100 * one.inputs + 10_000 * two.inputs, targets=targets)


class Mix(RandomProcessor):
    """Mixup of the inputs with one partner."""

    def __init__(self, partners: int = 1) -> None:
        self.partners = partners

    def process(self, sample: Sample, rng: np.random.Generator, partner: Sample) -> Sample:  # type: ignore[override]
        share = rng.random()
        targets = np.float64([sample.targets[0], partner.targets[0], share, -1])
        return attrs.evolve(sample, inputs=share * sample.inputs + (1 - share) * partner.inputs, targets=targets)


class MixBatch(RandomBatchProcessor):
    """The same as `Mix`, for a whole batch."""

    partners = 1

    def process(self, batch: SampleBatch, random: Any, *partners: SampleBatch) -> SampleBatch:
        (partner,) = partners
        share = random.random(1)
        columns = [batch.targets[:, :1], partner.targets[:, :1], share, np.full_like(share, -1)]
        inputs = share * batch.inputs + (1 - share) * partner.inputs
        return attrs.evolve(batch, inputs=inputs, targets=np.concatenate(columns, axis=1))


class NoiseBatch(RandomBatchProcessor):
    def process(self, batch: SampleBatch, random: Any) -> SampleBatch:
        return attrs.evolve(batch, inputs=batch.inputs + random.random(1))


class Twice(GeneratingProcessor):
    def generate(self, sample: Sample) -> Iterable[Sample]:
        return [sample, sample]


class Fails(Processor):
    """A processor that fails on some samples."""

    def __init__(self, *bad: int) -> None:
        self.bad = bad

    def process(self, sample: Sample) -> Sample:
        if sample.targets[0] in self.bad:
            raise ValueError("cannot be read")
        return sample


class FailsAtRandom(RandomProcessor):
    """The same as a random processor, so that no sample is left out before training."""

    def __init__(self, *bad: int) -> None:
        self.bad = bad

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return Fails(*self.bad).process(sample)


def numbers(position: int, index: int, visit: int, count: int) -> list[float]:
    """Return the first random numbers of a processor, from NumPy."""
    key, counter = np.uint64([SEED, visit]), np.uint64([0, 0, position + 1, index])
    return list(np.random.Generator(np.random.Philox(key=key, counter=counter)).random(count))


def other(number: float, index: int, size: int = SIZE) -> int:
    """Return the partner that a random number selects among the other samples, counted from the sample on."""
    return [*range(index + 1, size), *range(index)][int(number * (size - 1))]


def made(*processors: Any, source: Any = None, **how: Any) -> Pipeline:
    """Return a pipeline in this process."""
    return Pipeline(Files() if source is None else source, processors, seed=SEED, **{"workers": 0, **how})


def everything(pipeline: Pipeline, epoch: int = 1, first: int = 0) -> list[Any]:
    """Return the batches of an epoch."""
    blocks = pipeline.loader(4, shuffle=True).blocks(epoch, chunk=1, first=first)
    return [(block.inputs[""].tolist(), block.targets[""].tolist()) for block in blocks]


@pytest.mark.parametrize("preload", ["on", "off"])
def test_partners_are_functions_of_seed_epoch_and_index(preload: Any) -> None:
    """A partner is selected by the first number of the processor, and is processed as on its own visit until then."""
    pipeline = made(Double(), Noise(), Pair(), preload=preload)
    for epoch in (0, 3):
        for index, sample in enumerate(pipeline.samples(epoch)):
            first, second, third = numbers(2, index, epoch, 3)
            drawn = [index, other(first, index), other(second, index)]
            assert sample.targets.tolist() == [*drawn, third]
            one, *rest = (2 * each + numbers(1, each, epoch, 1)[0] for each in drawn)
            np.testing.assert_allclose(sample.inputs, [one + 100 * rest[0] + 10_000 * rest[1]], rtol=1e-15)
    assert len({tuple(pipeline.sample(3, epoch).targets[1:3]) for epoch in range(5)}) > 1


def test_partners_of_partners() -> None:
    """The second of two mixing processors receives partners that the first one mixed."""
    pipeline, before = made(Mix(), Mix()), made(Mix())
    for index, sample in enumerate(pipeline.samples(2)):
        number, share = numbers(1, index, 2, 2)
        ours, theirs = (before.sample(each, 2).inputs for each in (index, other(number, index)))
        np.testing.assert_array_equal(sample.inputs, share * ours + (1 - share) * theirs)


def test_each_other_sample_is_equally_probable() -> None:
    """Over many epochs, every other sample is the partner equally often, and a sample is never its own partner."""
    pipeline = made(Mix(), source=([[0.0], [1.0], [2.0], [3.0]], np.arange(16.0).reshape(4, 4)))
    drawn = np.array([pipeline.sample(1, epoch).targets[1] for epoch in range(3000)])
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [0, 8, 12]
    # Chi-squared with 2 degrees of freedom exceeds 13.8 once in 1,000 times; the seed is fixed.
    assert ((counts - 1000) ** 2 / 1000).sum() < 13.8


def test_a_single_sample_is_its_own_partner() -> None:
    """Data of one sample can be used, for example with a limit of 1."""
    assert next(made(Mix(), limit=1).samples()).targets[:2].tolist() == [0, 0]


def test_batches_equal_samples() -> None:
    """A batch processor has the partners and the results of a sample processor, in batches and alone."""
    data = np.arange(SIZE * 1.0)[:, None], np.stack([np.arange(SIZE), *3 * [np.full(SIZE, -1)]], axis=1) * 1.0
    together, mixed, alone = (
        made(NoiseBatch(), MixBatch(), source=data),
        made(NoiseBatch(), MixBatch(), Double(), source=data),
        made(Noise(), Mix(), source=data),
    )
    assert everything(together) == everything(alone)
    assert [np.multiply(inputs, 2).tolist() for inputs, _ in everything(together)] == [x for x, _ in everything(mixed)]
    for index, sample in enumerate(together.samples(1)):
        assert sample.targets.tolist() == [index, other(numbers(1, index, 1, 1)[0], index), sample.targets[2], -1]


@pytest.fixture(scope="module")
def two() -> Iterator[WorkerPool]:
    """Two workers for several tests."""
    workers = WorkerPool(2)
    yield workers
    workers.close()


CASES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "kept": ([Double(), Noise(), Pair()], {}),
    "read": ([Double(), Noise(), Mix(), Pair()], {"preload": "off"}),
    "generated": ([Twice(), Noise(), Pair()], {"preload": "off"}),
    "skipped": ([Fails(3, 4), Noise(), FailsAtRandom(7, 8), Pair()], {"preload": "off", "on_error": "skip"}),
    "batches": ([Double(), NoiseBatch(), MixBatch()], {}),
}


@pytest.mark.parametrize("case", CASES)
def test_partners_do_not_depend_on_workers_or_position(case: str, two: WorkerPool) -> None:
    """Batches are bit-identical in workers, and from any batch of an epoch on."""
    processors, how = CASES[case]
    wanted = everything(made(*processors, **how))
    assert len(wanted) > 4
    assert everything(made(*processors, **how, workers=two)) == wanted
    for first in (1, 4):
        assert everything(made(*processors, **how), first=first) == wanted[first:]


def test_unusable_partners() -> None:
    """An unusable partner ends the run, or the next number selects another partner if such samples are skipped."""
    with pytest.raises(DataError, match="FailsAtRandom failed on sample"):
        list(made(FailsAtRandom(0, 1, 2), Mix(), source=[Files()[n] for n in (5, 0, 1, 2)]).samples())
    bad = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    pipeline = made(FailsAtRandom(*bad), Mix(), on_error="skip")
    samples = list(pipeline.samples())
    assert [sample.meta for sample in samples] == list(range(10, SIZE))
    for sample in samples:
        drawn = [other(number, sample.meta) for number in numbers(1, sample.meta, 0, 50)]
        assert sample.targets[1] == next(each for each in drawn if each not in bad)
    assert "10 samples of the source were skipped" in str(pipeline.skipped())


def test_no_usable_partner(refused: Any) -> None:
    """A sample is left out if all of many drawn partners are unusable."""
    with refused(DataError):
        list(made(FailsAtRandom(1, 2), Mix(), source=[Files()[n] for n in range(3)], on_error="skip").samples())


def test_time_of_a_processor_with_partners() -> None:
    """The time to make partners counts as that of the processor."""
    parts = throughput.shares(made(Noise(), Pair()).dataset(), samples=3)
    assert [part.name for part in parts] == ["reading", "Noise", "Pair", "batching"]


class Short(RandomProcessor):
    partners = 2

    def process(self, sample: Sample, rng: Any, partner: Sample) -> Sample:  # type: ignore[override]
        return sample


class Everywhere(Pair):
    modes = frozenset(Mode)


class Fixed(Processor):
    partners = 1

    def process(self, sample: Sample) -> Sample:
        return sample


class Counted(RandomProcessor):
    def partners(self) -> int:  # type: ignore[override]
        return 1


@pytest.mark.parametrize("processor", [Short(), Mix(-1), Fixed(), Counted()], ids=lambda each: type(each).__name__)
def test_wrong_declarations(processor: Any, refused: Any) -> None:
    """Processors that cannot receive their partners are refused before anything is read."""
    with refused(ScenarioError):
        as_processors([processor], "the scenario")


def test_data_without_partners(refused: Any) -> None:
    """Streams and data that is not for training have no partners."""
    with refused(ScenarioError):
        made(Pair(), source=Stream(lambda: map(Files().__getitem__, range(4)))).dataset()
    with refused(ScenarioError):
        made(Everywhere(), mode=Mode.EVALUATION)


class Points(Scenario):
    """A regression whose samples are mixed."""

    def train_data(self) -> Any:
        values = np.random.default_rng(0).random((40, 3), np.float32)
        return values, values.sum(axis=1, keepdims=True)

    def processors(self) -> Any:
        return [Blend()]

    def build(self, inputs: Any) -> Any:
        import keras

        return keras.layers.Dense(1, kernel_initializer="ones")(inputs)

    def losses(self) -> Any:
        return "mse"


class Blend(RandomProcessor):
    partners = 1

    def process(self, sample: Sample, rng: np.random.Generator, *partners: Sample) -> Sample:
        share = np.float32(rng.beta(0.4, 0.4))
        inputs, targets = (
            share * getattr(sample, side) + (1 - share) * getattr(partners[0], side) for side in ("inputs", "targets")
        )
        return attrs.evolve(sample, inputs=inputs, targets=targets)


def test_a_run_is_resumed_bit_for_bit(make_trainer: Any, tmp_path: Any) -> None:
    """A run resumed within an epoch has the weights of an uninterrupted one."""
    words = ("--train.batch_size", "4", "--checkpoint.every_steps", "3", "--checkpoint.keep", "99")
    words += ("--trainer.tune", "off")
    whole = make_trainer(Points, *words, output="out", exports=False)
    history = whole.fit().history
    within = next(each for each in sorted((tmp_path / "out" / "checkpoint").iterdir()) if int(each.name[-10:]) % 10)
    resumed = make_trainer(Points, *words, exports=False)
    resumed.restore(within)
    assert resumed.fit().history == history
    for ours, theirs in zip(resumed.model.weights, whole.model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
