"""Data as users have it: each kind of source trains, resumes exactly, and gives the numbers of Keras."""

from __future__ import annotations

import itertools
import tracemalloc
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sources
from sources import BATCH, BATCHED, KINDS, SAMPLES, SKIPPED, STREAMS, X, Y

from aipcore.data import stream_reader
from aipcore.data.pipeline import Pipeline
from aipcore.data.streamed import StreamDataset
from aipcore.errors import DataError
from aipcore.scenario import GeneratingProcessor, Sample, Scenario, Stream
from aipcore.training.checkpoint.format import newest_checkpoint

Refused = Callable[..., Any]


def some_slow(kinds: Iterable[str], *quick: str) -> list[Any]:
    """Return kinds as parameters of a test, all but a few of them marked as slow."""
    return [each if each in quick else pytest.param(each, marks=pytest.mark.slow) for each in kinds]


def convert(element: Any) -> Any:
    """Return the rows of a Hugging Face dataset as samples."""
    return tuple(np.asarray(element[name], "float32") for name in "xy") if isinstance(element, dict) else element


def opened(kind: str, **arguments: Any) -> Pipeline:
    """Return a pipeline of a kind of source."""
    # Without a conversion, TensorFlow stacks the samples of a `tf.data.Dataset`.
    return Pipeline(KINDS[kind](), convert=convert if kind.startswith("Hugging") else None, **arguments)


def rows(pipeline: Pipeline, epochs: int, batch_size: int = 16, **arguments: Any) -> list[Any]:
    """Return the targets of each batch of the first epochs."""
    loader = pipeline.loader(batch_size, **arguments)
    return [block.targets[""][0, :, 0] for epoch in range(epochs) for block in loader.blocks(epoch, chunk=1)]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    import keras

    keras.utils.set_random_seed(1)


@pytest.mark.parametrize("kind", KINDS)
def test_each_epoch_has_each_sample_once(kind: str) -> None:
    """Every kind gives all samples in each of two epochs, in batches of the right sizes."""
    with opened(kind) as pipeline:
        found = rows(pipeline, 2)
        assert len(pipeline) in (SAMPLES, BATCH * 13)
    size = BATCH if kind in BATCHED else 16
    assert [len(each) for each in found] == 2 * [*[size] * (SAMPLES // size), SAMPLES % size]
    for part in (found[: len(found) // 2], found[len(found) // 2 :]):
        np.testing.assert_array_equal(np.sort(np.concatenate(part)), np.sort(Y[:, 0]))


class Clock:
    """A clock that moves on at each look, so that states are saved at fixed elements."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Return the time."""
        self.now += 0.01
        return self.now


@pytest.mark.parametrize("kind", some_slow(STREAMS, "tf.data batches", "PyDataset", "iterator with a state"))
def test_every_position_can_be_resumed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading from the state of any batch gives the batches of an uninterrupted run, also across passes."""
    import keras

    monkeypatch.setattr(stream_reader, "time", Clock())
    monkeypatch.setattr(stream_reader, "STATE_SECONDS", 0.05)
    monkeypatch.setattr(stream_reader, "STATE_SHARE", 1e9)
    with opened(kind) as pipeline:
        loader = pipeline.loader(16, shuffle=True)
        wanted = [block.inputs[""] for epoch in range(3) for block in loader.blocks(epoch, chunk=1)]
        dataset, batching = loader.dataset, loader.batching
        assert isinstance(dataset, StreamDataset)
        assert dataset.resumable is (kind not in SKIPPED)
        places = [(epoch, step) for epoch in range(3) for step in range(0, batching.steps, 3)]
        states = [dataset.state(batching.start(*place)) for place in places]
    for (epoch, step), state in zip(places, states, strict=True):
        keras.utils.set_random_seed(1)
        with opened(kind) as pipeline:
            loader = pipeline.loader(16, shuffle=True)
            assert isinstance(loader.dataset, StreamDataset)
            loader.dataset.restore(state)
            found = [
                block.inputs[""]
                for each in range(epoch, 3)
                for block in loader.blocks(each, chunk=1, first=step if each == epoch else 0)
            ]
        assert len(found) == len(wanted) - epoch * batching.steps - step
        for ours, theirs in zip(reversed(found), reversed(wanted), strict=False):
            np.testing.assert_array_equal(ours, theirs)


def weights(trainer: Any) -> list[bytes]:
    """Return the weights of a trainer's model as bytes."""
    return [each.numpy().tobytes() for each in trainer.model.weights]


@pytest.mark.parametrize("kind", some_slow(KINDS, "tf.data samples", "generator", "Hugging Face IterableDataset"))
def test_a_run_is_resumed_bit_for_bit(make_trainer: Any, tmp_path: Path, kind: str) -> None:
    """A run resumed within an epoch has the weights and the history of an uninterrupted one."""
    words = ("--checkpoint.every_steps", "3", "--checkpoint.keep", "99", "--trainer.tune", "off")
    cls = sources.points(kind, jitter=kind in ("generator", "grain IterDataset"))
    whole = make_trainer(cls, *words, output="out", exports=False)
    history = whole.fit().history
    saved = sorted((tmp_path / "out" / "checkpoint").iterdir())
    within = [each for each in saved if int(each.name[-10:]) % (13 if kind in BATCHED else 7)]
    resumed = make_trainer(cls, *words, exports=False)
    resumed.restore(within[len(within) // 2])
    assert resumed.state.step
    assert resumed.fit().history == history
    assert weights(resumed) == weights(whole)


def in_order() -> Any:
    """Return a `tf.data.Dataset` that is not shuffled: `Model.fit` draws two orders for each epoch."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH)


def repeated() -> Iterator[Any]:
    """Yield batches without end."""
    while True:
        yield from sources.batches()


@pytest.mark.parametrize(
    ("kind", "given", "steps"),
    [("in order", in_order, None), ("PyDataset", sources.py_dataset, None), ("DataLoader", repeated, 13)],
)
def test_losses_are_those_of_fit(
    make_trainer: Any, monkeypatch: pytest.MonkeyPatch, kind: str, given: Any, steps: int | None
) -> None:
    """The first two epochs have the losses of `Model.fit` on the same object."""
    import keras

    monkeypatch.setitem(KINDS, "in order", in_order)
    trainer = make_trainer(sources.points(kind), "--train.shuffle", "false", "--trainer.epochs", "2")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.set_weights([each.numpy() for each in trainer.model.weights])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    shuffle = {} if kind == "DataLoader" else {"shuffle": False}
    with warnings.catch_warnings():
        # Keras warns that it does not shuffle a generator.
        warnings.simplefilter("ignore")
        theirs = model.fit(given(), epochs=2, steps_per_epoch=steps, verbose=0, **shuffle).history["loss"]
    np.testing.assert_allclose([each["loss"] for each in trainer.fit().history], theirs, rtol=1e-5)


def test_an_endless_generator_trains(make_trainer: Any) -> None:
    """An endless generator is a stream if `samples_per_epoch` is set; it is read no further than needed."""
    read = itertools.count()

    class Endless(sources.Points):
        def train_data(self) -> Iterator[Any]:
            while True:
                next(read)
                yield X[0], Y[0]

        def val_data(self) -> Any:
            return None

    trainer = make_trainer(Endless, "--trainer.samples_per_epoch", "64", "--trainer.tune", "off")
    assert len(trainer.fit().history) == 3
    assert next(read) < 600
    assert dict(trainer.plan())["data"].startswith("64 training samples in 4 batches of 16")
    assert dict(trainer.plan())["stream"].startswith("an iterable, in its own order; resumed by reading again")


def test_a_generator_is_kept_or_streamed(tmp_path: Path) -> None:
    """A generator is kept in memory if it fits and nothing else is asked for."""
    del tmp_path

    def made(**arguments: Any) -> Any:
        with Pipeline(iter(sources.pairs()), again=lambda: iter(sources.pairs()), **arguments) as pipeline:
            return pipeline.dataset()

    assert not isinstance(made(), StreamDataset)
    assert not isinstance(made(preload="on", preload_bytes=1), StreamDataset)
    assert isinstance(made(preload="off"), StreamDataset)
    assert isinstance(made(preload_bytes=10_000), StreamDataset)
    assert isinstance(made(streamed=True), StreamDataset)


@pytest.mark.parametrize("kind", STREAMS)
def test_limit(kind: str) -> None:
    """A limit counts samples, and cuts the last batch."""
    with opened(kind, limit=20) as pipeline:
        found = rows(pipeline, 2)
    assert sum(map(len, found)) == 40
    assert len(np.unique(np.concatenate(found[: len(found) // 2]))) == 20


def test_processors_and_workers() -> None:
    """The samples of a stream are processed alike here and in worker processes."""

    class Twice(GeneratingProcessor):
        def generate(self, sample: Any) -> Iterator[Any]:
            yield sample
            yield Sample(inputs=-sample.inputs, targets=-sample.targets)

    def found(workers: int) -> list[Any]:
        with Pipeline(Stream(sources.pairs), [Twice(), sources.Jitter()], workers=workers, seed=3) as pipeline:
            loader = pipeline.loader(16)
            assert loader.batching.samples == 2 * SAMPLES
            return [block.inputs[""] for epoch in range(2) for block in loader.blocks(epoch, chunk=2)]

    here, there = found(0), found(2)
    assert len(here) == len(there)
    for ours, theirs in zip(here, there, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(here[0], here[len(here) // 2])


def test_shuffle_buffer() -> None:
    """Groups of elements within a pass are shuffled by the seed, and each element comes once per pass."""

    def order(seed: int) -> Any:
        with Pipeline(Stream(sources.pairs), window=30, seed=seed) as pipeline:
            both = np.concatenate(rows(pipeline, 2))
        assert not np.array_equal(both[:SAMPLES], both[SAMPLES:])
        np.testing.assert_array_equal(np.sort(both[SAMPLES:]), np.sort(Y[:, 0]))
        return both[:SAMPLES]

    one = order(1)
    assert np.array_equal(one, order(1))
    assert not np.array_equal(one, order(2))
    for first in range(0, SAMPLES, 30):
        part = slice(first, first + 30)
        assert not np.array_equal(one[part], Y[part, 0])
        np.testing.assert_array_equal(np.sort(one[part]), np.sort(Y[part, 0]))


def test_skipped_samples_are_not_held() -> None:
    """Skipping to a position needs the memory of a few samples."""

    def large() -> Iterator[Any]:
        for number in range(400):
            yield np.full(2**17, number % 100, np.uint8), number

    with Pipeline(Stream(large, length=400)) as pipeline:
        loader = pipeline.loader(4)
        tracemalloc.start()
        block = next(loader.blocks(0, chunk=1, first=95))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert block.targets[""][0].tolist() == [380, 381, 382, 383]
    assert peak < 20 * 2**17


def test_shares_of_a_batch() -> None:
    """Each of two processes gets its share of each batch."""

    def found(share: Any) -> Any:
        with Pipeline(Stream(sources.pairs)) as pipeline:
            loader = pipeline.loader(16)
            loader.share = share
            return [block.targets[""][:, :, 0] for block in loader.blocks(0, chunk=1)]

    halves = [found(lambda size, n=n: np.arange(size)[n::2]) for n in range(2)]
    for whole, first, second in zip(found(None), *halves, strict=True):
        np.testing.assert_array_equal(whole[:, 0::2], first)
        np.testing.assert_array_equal(whole[:, 1::2], second)


class Rows:
    """Rows by name, as those of a Hugging Face dataset."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return {"text": "a", "label": index}


def ambiguous() -> Any:
    """Return a dataset whose elements may be batches or samples."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH, drop_remainder=True)


def endless() -> Any:
    """Return a dataset without an end."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((X, Y)).repeat()


def batches() -> Any:
    """Return a dataset of grain whose elements are batches."""
    import grain

    return grain.MapDataset.source(sources.pairs()).batch(BATCH).map(lambda element: element)


@pytest.mark.parametrize(
    "data",
    [
        Rows,
        ambiguous,
        endless,
        lambda: Stream(iter(sources.pairs())),
        lambda: Stream(list),
        lambda: Stream([3]),
        batches,
    ],
    ids=["rows by name", "batches or samples", "endless", "an iterator", "no samples", "other elements", "batches"],
)
def test_refused(data: Any, refused: Refused) -> None:
    """Unusable data is refused in a sentence that names the way."""
    with refused(DataError), Pipeline(data()) as pipeline:
        rows(pipeline, 2)


def test_other_batch_sizes_are_refused(refused: Refused) -> None:
    """A stream of batches keeps its batches; another batch size or a part of a batch is refused."""
    with opened("PyDataset") as pipeline:
        with refused(DataError):
            pipeline.loader(32)
        with refused(DataError):
            pipeline.loader(16, samples=100)


def test_skipping_is_reported(make_trainer: Any, tmp_path: Path) -> None:
    """The sentence about skipped samples names their number and the time."""
    cls = sources.points("generator")
    words = ("--trainer.tune", "off")
    make_trainer(cls, *words, output="out", exports=False).fit()
    resumed = make_trainer(cls, *words, "--trainer.epochs", "4", exports=False)
    resumed.restore(newest_checkpoint(tmp_path / "out" / "checkpoint"))
    texts: list[str] = []
    resumed._reporter.message = texts.append
    resumed.fit()
    assert [text for text in texts if text.startswith("Skipped 300 samples of Generator.train_data() in ")]
    assert isinstance(resumed.scenario, Scenario)
