"""The pipeline without a scenario: sources, caching, and batching."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import attrs
import numpy as np
import pytest

from aipcore.data.dataset import MemoryDataset
from aipcore.data.parallel import ParallelDataset
from aipcore.data.pipeline import Pipeline
from aipcore.errors import DataError
from aipcore.scenario import ColumnSpec, GeneratingProcessor, Mode, Processor, RandomProcessor, Sample


class Files:
    """Samples read by index, with a count of the reads of each."""

    def __init__(self, count: int, shape: tuple[int, ...] = (4,)) -> None:
        self.count = count
        self.shape = shape
        self.reads: Counter[int] = Counter()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.count:
            raise IndexError(index)
        self.reads[index] += 1
        return Sample(inputs={"x": np.full(self.shape, index, np.float32)}, targets={"y": np.int32(index)})


class Scale(Processor):
    """A processor that doubles, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def process(self, sample: Sample) -> Sample:
        self.calls += 1
        return attrs.evolve(sample, inputs={"x": sample.inputs["x"] * 2})


class Jitter(RandomProcessor):
    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return attrs.evolve(sample, inputs={"x": sample.inputs["x"] + rng.random(dtype=np.float32)})


class Jitterless(Processor):
    def process(self, sample: Sample) -> Sample:
        return sample


class Stretch(RandomProcessor):
    """A processor that gives each sample a random length from 1 to 9."""

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return attrs.evolve(sample, inputs={"x": np.ones(rng.integers(1, 10), np.float32)})


def epoch(pipeline: Pipeline, number: int, **how: Any) -> list[Any]:
    """Return all batches of an epoch as lists."""
    return [
        [block.inputs["x"].tolist(), block.targets["y"].tolist()]
        for block in pipeline.loader(4, shuffle=True, **how).blocks(number, chunk=2)
    ]


def test_deterministic_processing_runs_once() -> None:
    """Reading and leading deterministic processors run once; samples are stacked if no random ones follow."""
    files, scale = Files(10), Scale()
    pipeline = Pipeline(files, [scale])
    assert isinstance(pipeline.dataset(), MemoryDataset)
    for number in range(3):
        epoch(pipeline, number)
    assert scale.calls == 10
    assert set(files.reads.values()) == {1}
    files, scale = Files(10), Scale()
    pipeline = Pipeline(files, [scale, Jitter()])
    assert isinstance(pipeline.dataset(), ParallelDataset)
    assert pipeline.describe().startswith("Scale once, kept in memory; Jitter in each epoch in this process (")
    epochs = [epoch(pipeline, number) for number in range(3)]
    assert scale.calls == 10
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("how", [{"preload": "off"}, {"preload_bytes": 10}])
def test_data_beyond_memory_is_processed_again(how: Any) -> None:
    """If the samples do not fit in memory, the batches are the same."""
    files, scale = Files(200), Scale()
    pipeline = Pipeline(files, [scale, Jitter()], **how)
    assert pipeline.describe().startswith("Scale, Jitter in each epoch in this process (")
    assert epoch(pipeline, 2) == epoch(Pipeline(Files(200), [Scale(), Jitter()], preload="on"), 2)
    assert scale.calls >= 200
    plain = Pipeline(Files(200), [Scale()], **how)
    assert isinstance(plain.dataset(), ParallelDataset)
    assert epoch(plain, 1) == epoch(Pipeline(Files(200), [Scale()]), 1)


def test_auto_stops_early() -> None:
    """A few samples show that the rest will not fit; the size counts, not the number of samples."""
    files = Files(100_000)
    pipeline = Pipeline(files, preload_bytes=100_000 * 20 - 1)
    assert isinstance(pipeline.dataset(), ParallelDataset)
    assert sum(files.reads.values()) < 200
    assert isinstance(Pipeline(Files(1000), preload_bytes=1000 * 20).dataset(), MemoryDataset)
    assert isinstance(Pipeline(Files(1000), preload_bytes=1000 * 20 - 1).dataset(), ParallelDataset)


@pytest.mark.parametrize(
    "source",
    [
        lambda: ({"x": np.arange(6.0)[:, None]}, {"y": np.arange(6)}),
        lambda: [Sample(inputs={"x": np.array([float(n)])}, targets={"y": n}) for n in range(6)],
        lambda: (Sample(inputs={"x": np.array([float(n)])}, targets={"y": n}) for n in range(6)),
        lambda: Files(6, (1,)),
    ],
    ids=["arrays", "list", "generator", "files"],
)
@pytest.mark.parametrize("preload", ["auto", "off"])
def test_every_source_gives_the_same(source: Any, preload: Any) -> None:
    """Stacked arrays, samples and random access, cached or not, give the same results."""
    pipeline = Pipeline(source(), [Scale(), Jitter()], seed=1, preload=preload)
    expected = Pipeline(Files(6, (1,)), [Scale(), Jitter()], seed=1)
    for number in range(2):
        assert str(epoch(pipeline, number)) == str(epoch(expected, number))
    assert isinstance(Pipeline(source()).dataset(), MemoryDataset)


def test_two_samples_in_a_tuple_are_samples() -> None:
    """Two samples in a tuple are not a pair of inputs and targets."""
    assert len(Pipeline((Sample(inputs=np.ones(2)), Sample(inputs=np.ones(2))))) == 2


def test_resuming_is_seeking() -> None:
    """An epoch from any batch on is the end of the whole epoch, with any number of samples."""
    for samples in (10, 7, 23):
        pipeline = Pipeline(Files(10), [Jitter()], seed=2)
        loader = pipeline.loader(3, samples=samples, shuffle=True)
        whole = {block.first: block.inputs["x"].tolist() for block in loader.blocks(2, chunk=1)}
        for first in range(loader.batching.steps):
            again = Pipeline(Files(10), [Jitter()], seed=2).loader(3, samples=samples, shuffle=True)
            tail = {block.first: block.inputs["x"].tolist() for block in again.blocks(2, chunk=1, first=first)}
            assert tail == {step: batch for step, batch in whole.items() if step >= first}


def test_a_sample_that_comes_twice_in_an_epoch_differs() -> None:
    """Each visit draws new random numbers."""
    loader = Pipeline(Files(3), [Jitter()]).loader(6, samples=6)
    batch = next(loader.blocks(0, chunk=1)).inputs["x"][0, :, 0]
    assert len(set(batch.tolist())) == 6
    np.testing.assert_array_equal(np.floor(batch), [0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("preload", ["on", "off"])
def test_padding_value(preload: Any, refused: Any) -> None:
    """Batches are padded at the end with the value of their column."""
    samples = [Sample(inputs={"x": np.ones(n, np.float32)}, targets={"y": np.full(n, n)}) for n in (1, 3)]
    pipeline = Pipeline(samples, [Scale()], preload=preload, padding={"y": -1})
    block = next(pipeline.loader(2).blocks(0, chunk=5))
    assert block.inputs["x"].tolist() == [[[2, 0, 0], [2, 2, 2]]]
    assert block.targets["y"].tolist() == [[[1, -1, -1], [3, 3, 3]]]
    assert block.targets["y"].dtype == np.int64
    with refused(DataError):
        Pipeline(samples, [Scale()], preload=preload, padding={"z": -1}).dataset()


def test_random_sizes() -> None:
    """Sizes that vary only on demand are found on the first samples, and each block has one batch."""
    pipeline = Pipeline(Files(20), [Stretch()])
    assert pipeline.dataset().specs()[0]["x"].shape == (None,)
    blocks = list(pipeline.loader(8).blocks(0, chunk=9))
    assert [block.batch_size for block in blocks] == [8, 8, 4]
    assert not pipeline.dataset().known().uniform


def test_sizes_that_first_samples_do_not_show(refused: Any) -> None:
    """A late sample of another size is named or skipped, and its size can be declared."""

    class Odd(Files):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return sample if index != 777 else attrs.evolve(sample, inputs={"x": np.ones(9, np.float32)})

    def batches(**how: Any) -> list[Any]:
        return list(Pipeline(Odd(1000), preload="off", **how).loader(100).blocks(0, chunk=5))

    with refused(DataError):
        batches()
    assert sum(block.steps * block.batch_size for block in batches(on_error="skip")) == 999
    specs = {"x": ColumnSpec(shape=(None,), dtype="float32")}, {"y": ColumnSpec(shape=(), dtype="int32")}
    assert {block.inputs["x"].shape[2] for block in batches(specs=specs)} == {4, 9}
    wrong = {"x": ColumnSpec(shape=(3,), dtype="float32")}, specs[1]
    with refused(DataError):
        batches(specs=wrong)
    assert Pipeline(Files(5), specs=specs).dataset().specs() == (*specs, {})


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": {"z": np.ones(4)}},
        {"inputs": {"x": np.ones(4), "z": np.ones(4)}},
        {"targets": {"y": np.float32(1.5)}},
        {"targets": None},
    ],
)
def test_samples_that_differ_are_named(change: Any, refused: Any) -> None:
    """Names and dtypes must match those of the first samples; nothing is dropped silently."""

    def late(sample: Sample) -> Sample:
        return attrs.evolve(sample, **change) if sample.targets["y"] == 55 else sample

    with refused(DataError):
        list(Pipeline(Files(1000), [late], preload="off").loader(10).blocks(0, chunk=5))


def test_errors_of_reading(refused: Any) -> None:
    """An unreadable file is named or skipped; so is an exception of a generator."""

    class Broken(Files):
        def __getitem__(self, index: int) -> Sample:
            if index == 3:
                raise OSError("no such file: 3.png")
            return super().__getitem__(index)

    for preload in ("on", "off"):
        with pytest.raises(
            DataError, match=r"Sample 3 .* cannot be read: OSError: no such file: 3.png \(.*__getitem__\)"
        ):
            list(Pipeline(Broken(5), preload=preload).samples())  # type: ignore[arg-type]
        pipeline = Pipeline(Broken(5), preload=preload, on_error="skip")  # type: ignore[arg-type]
        assert [int(sample.targets["y"]) for sample in pipeline.samples()] == [0, 1, 2, 4]
        assert (pipeline.skipped() or "").startswith("1 sample of the source was skipped")

    def yields() -> Any:
        yield Sample(inputs=np.ones(1))
        raise KeyError("lost")

    with pytest.raises(DataError, match="the source failed at sample 1: KeyError: 'lost'"):
        Pipeline(yields()).dataset()
    with refused(DataError):
        Pipeline(Files(0)).dataset()


def test_prediction_needs_no_targets() -> None:
    """Inputs without targets are enough, and so are targets without inputs."""
    inputs = Pipeline([Sample(inputs=np.ones(2), meta=n) for n in range(3)], mode=Mode.PREDICTION)
    block = next(inputs.loader(2).blocks(0, chunk=1))
    assert block.targets == {}
    assert block.meta == [0, 1]
    specs = {"": ColumnSpec(shape=(None,), dtype="float32")}, {"": ColumnSpec(shape=(), dtype="int64")}
    for preload in ("on", "off"):
        pipeline = Pipeline(
            [Sample(inputs=np.ones(2))], [Jitterless()], mode=Mode.PREDICTION, specs=specs, preload=preload,  # type: ignore[arg-type]
            padding={"targets": -1},
        )  # fmt: skip
        assert pipeline.dataset().specs() == (specs[0], {}, {})
    targets = Pipeline([Sample(inputs=None, targets=n) for n in range(3)], mode=Mode.TARGETS)
    assert next(targets.loader(3).blocks(0, chunk=1)).targets[""].tolist() == [[0, 1, 2]]


def test_one_sample_through_the_chain() -> None:
    """A predictor uses the processors without the pipeline."""

    class Halves(GeneratingProcessor):
        def generate(self, sample: Sample) -> Any:
            for half in np.split(sample.inputs["x"], 2):
                yield attrs.evolve(sample, inputs={"x": half})

    processors = Pipeline([], [Halves(), Scale(), Jitter()], mode=Mode.PREDICTION).processors
    made = processors.apply(Sample(inputs={"x": np.arange(4.0)}))
    assert [sample.inputs["x"].tolist() for sample in made] == [[0, 2], [4, 6]]


SCRIPT = """
import sys
import numpy as np
from aipcore.data.pipeline import Pipeline
from aipcore.data.processor import RandomProcessor
from aipcore.data.sample import Sample

class Noise(RandomProcessor):
    def process(self, sample, rng):
        return Sample(inputs=sample.inputs + rng.normal(size=2), targets=sample.targets)

with Pipeline((np.zeros((4, 2)), np.arange(4)), [Noise()], seed=1) as pipeline:
    for block in pipeline.loader(2, shuffle=True).blocks(0, chunk=2):
        print(block.inputs[""].round(4).tolist(), block.targets[""].tolist())
print([name for name in ("tensorflow", "keras") if name in sys.modules])
"""


def test_needs_no_scenario_and_no_tensorflow() -> None:
    """A plain script uses the pipeline without TensorFlow, and another process gives the same numbers."""
    outputs = [
        subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60).stdout
        for _ in range(2)
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].splitlines()[-1] == "[]"
