"""Processors: modes, randomness, and errors."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from typing import Any

import attrs
import numpy as np
import pytest

from aipcore.data.pipeline import Pipeline
from aipcore.data.processor import post_process
from aipcore.errors import DataError, ScenarioError
from aipcore.scenario import GeneratingProcessor, Mode, PostProcessor, Processor, RandomProcessor, Sample


def numbers(count: int) -> list[Sample]:
    """Return samples 0 to count - 1, each an array of one number, with its name as meta."""
    return [Sample(inputs=np.array([float(n)], np.float32), targets=n, meta=f"{n}.png") for n in range(count)]


def values(pipeline: Pipeline, epoch: int = 0) -> list[float]:
    """Return the inputs of an epoch."""
    return [float(sample.inputs[0]) for sample in pipeline.samples(epoch)]


def double(sample: Sample) -> Sample:
    """Double a sample: a processor as a function."""
    return attrs.evolve(sample, inputs=sample.inputs * 2)


class Noise(RandomProcessor):
    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return attrs.evolve(sample, inputs=sample.inputs + rng.random(1, np.float32))


class Copies(GeneratingProcessor):
    """A processor that makes as many copies of a sample as its target says."""

    def generate(self, sample: Sample) -> Iterable[Sample]:
        for _ in range(int(sample.targets)):
            yield sample


class Fails(Processor):
    def __init__(self, *bad: int) -> None:
        self.bad = bad

    def process(self, sample: Sample) -> Sample:
        if sample.targets in self.bad:
            raise ValueError("cannot be\nread")
        return sample


class RandomlyFails(Noise):
    """A processor that fails for some samples, in training only."""

    def __init__(self, *bad: int) -> None:
        self.bad = bad

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if sample.targets in self.bad:
            raise ValueError("cannot be read")
        return super().process(sample, rng)


def only(modes: set[Mode]) -> Processor:
    """A processor that doubles in some modes."""

    class Doubled(Processor):
        def process(self, sample: Sample) -> Sample:
            return double(sample)

    made = Doubled()
    made.modes = modes
    return made


@pytest.mark.parametrize("mode", Mode)
def test_modes(mode: Mode) -> None:
    """A processor runs in its modes only: by default, a function in all and a random one in training."""
    chosen = only({Mode.EVALUATION, Mode.TARGETS})
    assert values(Pipeline(numbers(3), [double, chosen], mode=mode)) == (
        [0, 4, 8] if mode in chosen.modes else [0, 2, 4]
    )
    assert (values(Pipeline(numbers(3), [Noise()], mode=mode)) == [0, 1, 2]) == (mode is not Mode.TRAINING)


@pytest.mark.parametrize("preload", ["on", "off"])
def test_randomness_depends_on_seed_visit_index_and_position_alone(preload: Any) -> None:
    """Any order of visits gives the same numbers; another seed, visit, index or position gives others."""

    def made(seed: int = 3, *processors: Any) -> Pipeline:
        return Pipeline(numbers(5), [double, *(processors or [Noise()])], seed=seed, preload=preload)

    forward = {(epoch, index): float(made().sample(index, epoch).inputs[0]) for epoch in range(3) for index in range(5)}
    pipeline = made()
    for key in reversed(forward):
        assert float(pipeline.sample(key[1], key[0]).inputs[0]) == forward[key]
    noise = [value - 2 * index for (_, index), value in forward.items()]
    assert len({round(value, 5) for value in noise}) == 15
    assert values(made(4)) != values(made(3))
    once, twice = np.array(values(made())), np.array(values(made(3, Noise(), Noise())))
    second = twice - once
    assert not np.allclose(second, once - 2 * np.arange(5))
    assert len(set(second.round(5))) == 5


def test_randomness_outside_training_is_drawn_once() -> None:
    """In evaluation every epoch has the same samples, which can therefore be cached."""
    noise = Noise()
    noise.modes = set(Mode)
    kept, streamed = (Pipeline(numbers(4), [noise], mode=Mode.EVALUATION, preload=preload) for preload in ("on", "off"))
    assert type(kept.dataset()).__name__ == "MemoryDataset"
    assert values(kept, 0) == values(kept, 1) == values(streamed, 0) == values(streamed, 7)
    blocks = [next(streamed.loader(4).blocks(epoch, chunk=1)).inputs[""].tolist() for epoch in (0, 5)]
    assert blocks[0] == blocks[1]


def test_order_and_randomness_are_independent() -> None:
    """The random stream that shuffles a pass is not the one of a processor."""
    seen = []

    class Draw(RandomProcessor):
        def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
            seen.append(rng.integers(0, 2**62))
            return sample

    list(Pipeline(numbers(1), [Draw()], seed=5).samples())
    assert seen[-1] != np.random.Generator(np.random.Philox(key=[5, 0])).integers(0, 2**62)


@pytest.mark.parametrize("preload", ["on", "off"])
def test_generating(preload: Any) -> None:
    """One sample becomes many or none, and every copy has different random numbers."""
    pipeline = Pipeline(numbers(4), [Copies(), double], preload=preload)
    assert len(pipeline) == 6
    assert values(pipeline) == [2, 4, 4, 6, 6, 6]
    assert [sample.meta for sample in pipeline.samples()] == ["1.png", *["2.png"] * 2, *["3.png"] * 3]
    noisy = Pipeline(numbers(4), [Copies(), double, Noise()], preload=preload)
    assert len(set(values(noisy))) == 6
    assert values(noisy) == values(Pipeline(numbers(4), [Copies(), double, Noise()]))


def test_random_before_generating_is_refused(refused: Any) -> None:
    """A random processor before a generating one is refused: the number of samples would be unknown."""
    with refused(ScenarioError):
        Pipeline(numbers(4), [Noise(), Copies()])
    assert len(Pipeline(numbers(4), [Noise(), Copies()], mode=Mode.EVALUATION)) == 6


def test_generating_must_always_make_the_same(refused: Any) -> None:
    """A number of samples that changes after counting is an error instead of shifting all samples."""

    class Shrinks(GeneratingProcessor):
        calls = 0

        def generate(self, sample: Sample) -> Iterable[Sample]:
            self.calls += 1
            return [sample] * (2 if self.calls <= 3 else 1)

    with refused(DataError):
        Pipeline(numbers(3), [Shrinks()], preload="off").dataset()


@pytest.mark.parametrize("processors", [[Fails(2)], [RandomlyFails(2)], [Copies(), Fails(2)]])
@pytest.mark.parametrize("preload", ["on", "off"])
def test_failure_names_processor_and_sample(processors: Any, preload: Any) -> None:
    """The error names processor and sample, and its cause is the author's exception."""
    with pytest.raises(
        DataError,
        match=r"sample 2 of the source \('2.png'\): ValueError: cannot be read \(.*line \d+, in process\)\. Fix",
    ) as caught:
        list(Pipeline(numbers(5), processors, preload=preload).samples())
    assert processors[-1].name in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError)
    assert traceback.extract_tb(caught.value.__cause__.__traceback__)[-1].name == "process"


@pytest.mark.parametrize("preload", ["on", "off"])
def test_failing_samples_can_be_skipped(preload: Any) -> None:
    """Failing samples are left out and counted, and the first is named."""
    pipeline = Pipeline(numbers(6), [Fails(1, 4), double], preload=preload, on_error="skip")
    pipeline.dataset()
    assert values(pipeline) == [0, 4, 6, 10]
    report = pipeline.skipped()
    assert report is not None
    assert report.startswith("2 samples of the source were skipped")
    assert "sample 1 of the source" in report
    assert pipeline.skipped() is None


def test_skipped_samples_make_batches_smaller() -> None:
    """Every other sample comes once, with its meta, in its original batch; empty batches are dropped."""
    pipeline = Pipeline(numbers(12), [RandomlyFails(1, 6, 7, 8)], on_error="skip")
    blocks = list(pipeline.loader(3).blocks(0, chunk=4, room=4))
    assert [(block.first, block.steps, block.batch_size) for block in blocks] == [(0, 1, 2), (1, 1, 3), (3, 1, 3)]
    assert [len(block.inputs[""]) for block in blocks] == [1, 4, 4]
    shown = [block.targets[""][: block.steps].ravel().tolist() for block in blocks]
    assert shown == [[0, 2], [3, 4, 5], [9, 10, 11]]
    assert [block.meta for block in blocks] == [[f"{n}.png" for n in part] for part in shown]
    assert (pipeline.skipped() or "").startswith("4 samples")


def test_nothing_left(refused: Any) -> None:
    """If every sample fails, that is an error even if failing ones are skipped."""
    for preload in ("on", "off"):
        with refused(DataError):
            Pipeline(numbers(3), [Fails(0, 1, 2)], preload=preload, on_error="skip").dataset()  # type: ignore[arg-type]
    with refused(DataError):
        Pipeline(numbers(1), [Copies()]).dataset()


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (lambda sample: None, r"returned NoneType\. Return a Sample\. To drop samples, extend GeneratingProcessor"),
        (lambda sample: sample.inputs, r"returned ndarray\. Return a Sample"),
        (Noise, "has the class Noise as a processor"),
        (3, "has int as a processor"),
        (Processor(), r"Processor does not define process\(sample\)"),
    ],
)
def test_invalid_processors(processor: Any, message: str) -> None:
    """One sentence names the author's mistake."""
    with pytest.raises((ScenarioError, DataError), match=message):
        Pipeline(numbers(3), [processor]).dataset()


def test_post_processors() -> None:
    """Post-processors run in order on the outputs of a sample, in their modes, and are named if they fail."""

    class Argmax(PostProcessor):
        def process(self, outputs: dict[str, Any], meta: Any) -> dict[str, Any]:
            return {**outputs, "class": int(outputs[""].argmax())}

    class Named(PostProcessor):
        modes = frozenset({Mode.PREDICTION})

        def process(self, outputs: dict[str, Any], meta: Any) -> dict[str, Any]:
            return {"text": f"{meta}: {outputs['class']}"}

    outputs = {"": np.array([0.1, 0.7, 0.2])}
    assert post_process([Argmax(), Named()], outputs, "a.png") == {"text": "a.png: 1"}
    assert post_process([Argmax(), Named()], outputs, "a.png", mode=Mode.EVALUATION)["class"] == 1
    with pytest.raises(ScenarioError, match=r"Post-processor Named failed .* meta 'a.png': KeyError: 'class'"):
        post_process([Named()], outputs, "a.png")
