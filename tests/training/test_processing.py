"""Training on processed samples: cached or processed on demand, the run is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np
import pytest

from aipcore.errors import DataError, ScenarioError
from aipcore.scenario import Evaluator, GeneratingProcessor, Mode, Processor, RandomProcessor, Sample
from aipcore.training.reporter import Reporter


class Halve(Processor):
    def process(self, sample: Sample) -> Sample:
        return attrs.evolve(sample, inputs=sample.inputs / 2)


class Twice(GeneratingProcessor):
    modes = frozenset({Mode.TRAINING})

    def generate(self, sample: Sample) -> list[Sample]:
        return [sample, sample]


class Noise(RandomProcessor):
    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        noise = rng.normal(scale=0.1, size=sample.inputs.shape).astype(np.float32)
        return attrs.evolve(sample, inputs=sample.inputs + noise)


class Refuse(Noise):
    """A processor that fails on class 3."""

    modes = frozenset({Mode.TRAINING, Mode.EVALUATION})

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if sample.targets == 3:
            raise ValueError("too hard")
        return sample


class MetaEvaluator(Evaluator):
    """An evaluator that collects the evaluated samples."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def update(self, targets: Any, outputs: Any, meta: Any) -> None:
        assert len(meta) == len(targets[""]) == len(outputs[""])
        self.seen += meta

    def result(self) -> dict[str, float]:
        assert len(set(self.seen)) == len(self.seen)
        return {"samples": len(self.seen), "last": self.seen[-1]}


def processed(base: Any, *chosen: Any) -> Any:
    """Return a scenario whose samples pass through processors and have meta."""

    class Processed(base):  # type: ignore[misc]
        def train_data(self) -> Any:
            return self.listed(super().train_data())

        def val_data(self) -> Any:
            return self.listed(super().val_data())

        def listed(self, data: Any) -> Any:
            pairs = zip(*data, strict=True)
            return [Sample(inputs=x, targets=y, meta=number) for number, (x, y) in enumerate(pairs)]

        def processors(self) -> Any:
            return list(chosen)

        def evaluator(self) -> Any:
            return MetaEvaluator()

    return Processed


class Messages(Reporter):
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.rows: dict[str, str] = {}

    def plan(self, rows: list[tuple[str, str]]) -> None:
        self.rows = dict(rows)

    def message(self, text: str) -> None:
        self.texts.append(text)


ALL = ("--train.preload", "--val.preload")


def test_the_run_does_not_depend_on_caching(make_trainer: Any, noisy_class: Any) -> None:
    """With augmentation, a generating processor and a fixed one, weights and results are bit-identical."""
    ends = []
    for preload in ("auto", "off"):
        cls = processed(noisy_class, Twice(), Halve(), Noise())
        reporter = Messages()
        words = [word for option in ALL for word in (option, preload)]
        trainer = make_trainer(cls, *words, "--trainer.lav_every_n", "1", reporter=reporter)
        result = trainer.fit()
        assert trainer.data.batching.samples == 400
        assert trainer.engine.validation.batching.samples == 64
        ends.append((trainer.state.variables.read(), result.history, reporter.rows["processing"]))
    assert ends[0][2].startswith("Twice, Halve once, kept in memory; Noise in each epoch in this process (")
    assert ends[1][2].startswith("Twice, Halve, Noise in each epoch in this process (")
    assert ends[0][1] == ends[1][1]
    for name, value in ends[0][0].items():
        np.testing.assert_array_equal(value, ends[1][0][name], err_msg=name)


def test_processors_without_randomness_equal_processed_arrays(make_trainer: Any, blobs_class: Any) -> None:
    """Deterministic processors give the same run as arrays that were processed beforehand."""

    class Beforehand(blobs_class):  # type: ignore[misc]
        def train_data(self) -> Any:
            x, y = super().train_data()
            return x / 2, y

        def val_data(self) -> Any:
            x, y = super().val_data()
            return x / 2, y

    expected = make_trainer(Beforehand).fit().history
    assert make_trainer(processed(blobs_class, Halve())).fit().history == expected
    streamed = [word for option in ALL for word in (option, "off")]
    assert make_trainer(processed(blobs_class, Halve()), *streamed).fit().history == expected


def test_resumed_run_draws_the_same_numbers(make_trainer: Any, noisy_class: Any) -> None:
    """Augmentation after a checkpoint is that of an uninterrupted run."""
    cls = processed(noisy_class, Noise())
    whole = make_trainer(cls, "--trainer.epochs", "3", output="whole", exports=False)
    whole.fit()
    make_trainer(cls, "--trainer.epochs", "2", output="part", exports=False).fit()
    resumed = make_trainer(cls, "--trainer.epochs", "3", output="rest", exports=False)
    folder = max((resumed.output_dir.parent / "part" / "checkpoint").iterdir(), key=lambda path: path.stat().st_mtime)
    resumed.restore(folder)
    resumed.fit()
    expected = whole.state.variables.read()
    for name, value in resumed.state.variables.read().items():
        if not name.startswith("metrics"):
            np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.mark.parametrize("preload", ["auto", "off"])
def test_failing_samples(make_trainer: Any, blobs_class: Any, preload: str) -> None:
    """Failing samples end the run by default.

    On request, training and evaluation skip them and count them per epoch.
    """
    cls = processed(blobs_class, Refuse())
    with pytest.raises(DataError, match=r"Refuse failed on sample \d+ of Processed.*\): ValueError: too hard"):
        make_trainer(cls)
    reporter = Messages()
    trainer = make_trainer(
        cls, "--data.on_error", "skip", "--trainer.lav_every_n", "1", "--val.preload", preload, reporter=reporter
    )
    hard = sum(int(sample.targets == 3) for sample in trainer.scenario.train_data())
    kept = [sample.meta for sample in trainer.data.pipelines[1].samples()]
    result = trainer.fit()
    counted = [text for text in reporter.texts if "train_data()" in text]
    assert len(counted) == 2
    assert f"{hard} samples of Processed.train_data() were skipped" in counted[1]
    of_validation = [text for text in reporter.texts if "val_data()" in text]
    assert len(of_validation) == (1 if preload == "auto" else 2)
    assert result.history[-1]["lav_samples"] == len(kept) < 64
    assert result.history[-1]["lav_last"] == kept[-1]
    assert np.isfinite(result.history[-1]["loss"])


def test_sanity_check_sees_streamed_samples(make_trainer: Any, blobs_class: Any, refused: Any) -> None:
    """The sanity check reads the first samples."""

    class Spoil(Noise):
        def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
            return attrs.evolve(sample, inputs=sample.inputs * (np.nan if sample.meta == 5 else 1))

    with refused(DataError):
        make_trainer(processed(blobs_class, Spoil()))


def test_lines_in_buckets(make_trainer: Any, blobs_class: Any) -> None:
    """Samples of varying length train in buckets, with random lengths on demand and less padding."""

    class Cut(RandomProcessor):
        def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
            return attrs.evolve(sample, inputs=sample.inputs[: rng.integers(4, 13)])

    class Lines(processed(blobs_class, Cut())):  # type: ignore[misc]
        padding: ClassVar[Any] = {"inputs": -1}

        def build(self, inputs: Any) -> Any:
            from keras import layers

            pooled = layers.GlobalAveragePooling1D()(layers.Reshape((-1, 1))(inputs))
            return layers.Dense(4)(pooled)

    trainer = make_trainer(Lines, "--train.bucket_window", "100")
    assert trainer.data.train.specs()[0][""].shape == (None,)
    assert trainer.compile().reason == "the samples differ in size"
    assert np.isfinite(trainer.fit().history[-1]["val_loss"])
    assert min(block.inputs[""].min() for block in trainer.data.loader.blocks(0, chunk=1)) <= -1


class Children(Reporter):
    """A listener that records the processes started by the run."""

    def __init__(self) -> None:
        self.pids: list[int] = []

    def epoch_started(self, epoch: int, epochs: int, batches: int) -> None:
        del epoch, epochs, batches
        self.pids = children()


def children() -> list[int]:
    """Return the running child processes of this process."""
    tasks = Path("/proc/self/task").glob("*/children")
    return sorted(int(pid) for each in tasks for pid in each.read_text(encoding="utf-8").split())


def test_workers_of_a_run(make_trainer: Any, noisy_class: Any) -> None:
    """A run has two workers for all its data. It is bit-identical, and they end with it or when it cannot start."""
    before = children()
    ends = []
    for workers in ("0", "2"):
        cls = processed(noisy_class, Twice(), Halve(), Noise())
        reporter = Children()
        trainer = make_trainer(cls, "--data.workers", workers, "--train.preload", "off", reporter=reporter)
        result = trainer.fit()
        ends.append((trainer.state.variables.read(), result.history))
        assert len(set(reporter.pids) - set(before)) == int(workers)
        assert children() == before
    assert ends[0][1] == ends[1][1]
    for name, value in ends[0][0].items():
        np.testing.assert_array_equal(value, ends[1][0][name], err_msg=name)

    def broken(self: Any, inputs: Any) -> Any:
        assert len(children()) > len(before)
        raise RuntimeError("no model")

    # The search for lengths is the first consumer of samples, and so starts the workers.
    cls = type("Broken", (processed(noisy_class, Noise()),), {"build": broken})
    with pytest.raises(ScenarioError, match="RuntimeError: no model"):
        make_trainer(cls, "--data.workers", "1", "--train.bucket_window", "2")
    assert children() == before
