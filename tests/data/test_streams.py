"""Streams that are uneven, damaged, endless or shared: no sample is lost or doubled, and the rest is refused."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np
import pytest
import sources
from sources import BATCH, SAMPLES, X, Y

from aipcore.data import stream_positions, stream_reader
from aipcore.data.pipeline import Pipeline
from aipcore.data.processor import Mode
from aipcore.data.stream_positions import Position, Positions
from aipcore.data.streamed import StreamDataset
from aipcore.errors import DataError, TrainingError
from aipcore.scenario import GeneratingProcessor, Processor, Sample, Stream

Refused = Callable[..., Any]


def blocks(pipeline: Pipeline, epochs: int = 1, batch_size: int = 16, share: Any = None, **arguments: Any) -> list[Any]:
    """Return the blocks of the first epochs, with one batch each."""
    loader = pipeline.loader(batch_size, **arguments)
    loader.share = share
    return [block for epoch in range(epochs) for block in loader.blocks(epoch, chunk=1)]


def targets(found: list[Any]) -> Any:
    """Return the targets of all samples of blocks."""
    return np.concatenate([block.targets[""][0].reshape(-1) for block in found])


def numbers(count: int) -> Iterator[Any]:
    """Yield samples whose targets are their numbers."""
    for number in range(count):
        yield X[number % SAMPLES], np.float32([number])


def tensors() -> Any:
    """Return samples in their order as a `tf.data.Dataset`."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((X, np.arange(SAMPLES, dtype="float32")))


# Passes, limits and groups


@pytest.mark.parametrize(
    ("lengths", "given"),
    [((100, 90), None), ((100, 110), None), ((90, 90), 100), ((110, 110), 100)],
    ids=["fewer", "more", "declared too large", "declared too small"],
)
def test_passes_of_other_lengths_are_refused(refused: Refused, lengths: tuple[int, int], given: int | None) -> None:
    """If an epoch is a pass, each pass must have the same elements. With `samples_per_epoch`, it need not."""
    passes: list[int] = []

    def opened() -> Iterator[Any]:
        passes.append(0)
        return numbers(lengths[len(passes) > 1])

    def read(**arguments: int) -> None:
        with Pipeline(Stream(opened, length=given)) as pipeline:
            pipeline.dataset()
            passes.clear()
            if not arguments and given is None:
                assert len(pipeline) == lengths[0]
                passes.clear()
            blocks(pipeline, 3, **arguments)

    with refused(DataError):
        read()
    read(samples=64)


def test_validation_is_a_whole_pass(refused: Refused) -> None:
    """Validation on data that is shorter or longer than declared is an error, not a score of other samples."""
    with Pipeline(Stream(lambda: numbers(90), length=100), mode=Mode.EVALUATION) as pipeline, refused(DataError):
        blocks(pipeline)
    with Pipeline(Stream(lambda: numbers(110), length=100), mode=Mode.EVALUATION) as pipeline, refused(DataError):
        for _ in range(2):
            assert len(targets(blocks(pipeline))) == 100
    with Pipeline(Stream(lambda: numbers(100), length=100), mode=Mode.EVALUATION) as pipeline:
        for _ in range(3):
            np.testing.assert_array_equal(targets(blocks(pipeline)), np.arange(100))


def test_endless_validation_is_refused(refused: Refused) -> None:
    """The error names the options of validation."""
    with Pipeline(tensors().repeat(), mode=Mode.EVALUATION) as pipeline, refused(DataError):
        blocks(pipeline)
    with Pipeline(tensors().repeat(), mode=Mode.EVALUATION, limit=150) as pipeline:
        np.testing.assert_array_equal(targets(blocks(pipeline)), np.arange(150) % SAMPLES)


@pytest.mark.parametrize("mode", [Mode.TRAINING, Mode.EVALUATION])
@pytest.mark.parametrize(
    "data",
    [lambda: Stream(sources.pairs), sources.tf_batches, sources.tf_samples, sources.py_dataset, sources.TorchLoader],
    ids=["generator", "tf.data batches", "tf.data samples", "PyDataset", "DataLoader"],
)
def test_a_limit_above_the_number_of_samples(data: Any, mode: Mode) -> None:
    """It changes nothing: no sample comes twice in an epoch."""
    with Pipeline(data(), mode=mode, limit=1000) as pipeline:
        found = targets(blocks(pipeline, 2))
    np.testing.assert_array_equal(np.sort(found), np.sort(np.concatenate([Y[:, 0]] * 2)))


def test_shuffle_buffer_mixes_samples_of_tf_data() -> None:
    """Single samples are shuffled in groups within a pass, although TensorFlow stacks them otherwise."""
    with Pipeline(tensors(), window=30) as pipeline:
        found = targets(blocks(pipeline, 2))
    for first in (0, 30, 60, 100, 130, 160):
        part = found[first : first + 30]
        np.testing.assert_array_equal(np.sort(part), np.arange(first % 100, first % 100 + 30))
        assert not np.array_equal(part, np.sort(part))
    np.testing.assert_array_equal(np.sort(found[90:100]), np.arange(90, 100))


def test_shuffle_buffer_of_batches_ends_with_the_pass() -> None:
    """The groups of batches end with a pass of unknown length, once it is counted."""
    with Pipeline(Stream(lambda: iter(sources.batches()), batched=True), window=5) as pipeline:
        found = blocks(pipeline, 3)
    for epoch in range(3):
        part = targets(found[13 * epoch : 13 * (epoch + 1)])
        np.testing.assert_array_equal(np.sort(part), np.sort(Y[:, 0]))


def test_to_sample_is_called_for_samples_of_tf_data() -> None:
    """A `tf.data.Dataset` of mappings without batches is converted sample by sample."""
    import tensorflow as tf

    rows = tf.data.Dataset.from_tensor_slices({"x": X, "y": Y})
    with Pipeline(rows, convert=lambda row: (row["x"] * 2, row["y"])) as pipeline:
        np.testing.assert_array_equal(blocks(pipeline)[0].inputs[""][0], X[:16] * 2)
    with Pipeline(rows) as pipeline, pytest.raises(DataError, match=r"Define to_sample"):
        pipeline.dataset()


# Elements that differ


def ragged(sizes: tuple[int, ...] = (3, 5, 4, 7, 5, 2, 6, 1)) -> Any:
    """Return batches of sequences, whose lengths count up to `sizes`."""
    import tensorflow as tf

    lengths = [size for size in sizes for _ in range(4)]
    rows = tf.ragged.constant([[float(n)] * length for n, length in enumerate(lengths)], ragged_rank=1)
    return tf.data.Dataset.from_tensor_slices(({"x": rows}, np.arange(len(lengths), dtype="float32"))).batch(4)


@pytest.mark.parametrize("mode", [Mode.TRAINING, Mode.EVALUATION])
@pytest.mark.parametrize("limit", [None, 18])
def test_ragged_batches(mode: Mode, limit: int | None) -> None:
    """A ragged tensor is padded to the longest sequence of its batch, also if the first ones are equally long."""
    sizes = (3, 3, 3, 3, 3, 3, 3, 3, 5)
    with Pipeline(ragged(sizes), mode=mode, limit=limit, padding={"x": -1.0}) as pipeline:
        assert pipeline.dataset().specs()[0]["x"].shape == (None,)
        found = blocks(pipeline, batch_size=4) if mode is Mode.TRAINING else blocks(pipeline, batch_size=8)
    assert targets(found).tolist() == list(range(limit or 36))
    last = found[-1].inputs["x"][0]
    assert last[-1].tolist() == [limit - 1.0] * 3 if limit else last[-1].tolist() == [35.0] * 5
    with Pipeline(ragged((3, 4)), mode=mode, padding={"x": -1.0}) as pipeline:
        (block,) = blocks(pipeline, batch_size=8) if mode is Mode.EVALUATION else blocks(pipeline, batch_size=4)[:1]
    assert block.inputs["x"][0][0].tolist() == [0.0] * 3 + [-1.0] * (mode is Mode.EVALUATION)


def unlike(kind: str) -> Iterator[Any]:
    """Yield batches of which a late one differs."""
    for number, (x, y) in enumerate(sources.batches()):
        if number != 9:
            yield x, y
        elif kind == "larger":
            yield np.concatenate([x, x]), np.concatenate([y, y])
        elif kind == "wider":
            yield np.concatenate([x, x], axis=1), y
        elif kind == "weighted":
            yield x, y, np.ones(len(x))
        elif kind == "of text":
            yield x.astype(str), y
        else:
            yield {"x": x}, y


@pytest.mark.parametrize("kind", ["larger", "wider", "weighted", "of text", "named"])
def test_unlike_batches_are_refused(refused: Refused, kind: str) -> None:
    """A late batch of another shape, type or form is refused, and names the batch's origin."""
    with Pipeline(Stream(lambda: unlike(kind), batched=True)) as pipeline, refused(DataError):
        blocks(pipeline)


@pytest.mark.parametrize("mode", [Mode.TRAINING, Mode.EVALUATION])
def test_unlike_batches_are_skipped(mode: Mode) -> None:
    """With `on_error` skip, such a batch is left out and its samples are counted."""
    with Pipeline(Stream(lambda: unlike("wider"), batched=True), mode=mode, on_error="skip") as pipeline:
        found = blocks(pipeline, batch_size=BATCH)
        text = pipeline.skipped()
    np.testing.assert_array_equal(targets(found), np.delete(Y[:, 0], range(72, 80)))
    assert text is not None
    assert text.startswith("8 samples of the source were skipped")


def test_batches_are_told_from_samples() -> None:
    """Sequences of varying length are not batches, and inputs are not a tuple of arrays."""
    import tensorflow as tf

    def sequences() -> Iterator[Any]:
        for length in (3, 4, 5, 6):
            yield np.zeros((length, 2), "float32"), np.zeros(length, "float32")

    signature = (tf.TensorSpec((None, 2)), tf.TensorSpec((None,)))
    data = tf.data.Dataset.from_generator(sequences, output_signature=signature)
    with pytest.raises(DataError, match=r"may be a batch of varying size or a sample"), Pipeline(data) as pipeline:
        pipeline.dataset()
    with Pipeline(Stream(data, batched=False), padding={"inputs": 0, "targets": 0}) as pipeline:
        assert len(blocks(pipeline, batch_size=4)[0].inputs[""][0]) == 4
    pair = tf.data.Dataset.from_tensor_slices(((X, X), Y)).batch(2)
    with Pipeline(pair) as pipeline, pytest.raises(DataError, match=r"inputs are a tuple of 2 arrays"):
        pipeline.dataset()
    with Pipeline(Stream(sources.tf_batches)) as pipeline:
        assert len(blocks(pipeline, batch_size=BATCH)) == 13


# Skipped samples


class Fails(Processor):
    """Fails on some samples."""

    def __init__(self, *numbers: float) -> None:
        self.numbers = numbers

    def process(self, sample: Any) -> Any:
        if float(sample.targets.reshape(-1)[0]) in self.numbers:
            raise ValueError("damaged")
        return sample


class Cuts(GeneratingProcessor):
    """Makes two samples of each, and fails on one."""

    def generate(self, sample: Any) -> Iterator[Any]:
        if sample.targets.reshape(-1)[0] == 50:
            raise ValueError("damaged")
        yield sample
        yield attrs.evolve(sample, targets=-sample.targets)


def to_sample(element: Any) -> Any:
    """Fail on two elements."""
    if element[1][0] in (0, 70):
        raise ValueError("damaged")
    return element


@pytest.mark.parametrize(
    ("workers", "batched"),
    [(0, False), (0, True), *(pytest.param(2, each, marks=pytest.mark.slow) for each in (False, True))],
)
def test_damaged_samples_are_skipped(workers: int, batched: bool) -> None:
    """The first sample and later ones may fail in processing; each is counted once per epoch."""
    data = tensors().batch(BATCH) if batched else Stream(lambda: numbers(SAMPLES))
    with Pipeline(data, [Fails(0, 40, 41)], on_error="skip", workers=workers) as pipeline:
        loader = pipeline.loader(BATCH)
        assert pipeline.skipped() is None
        for epoch in range(2):
            found = list(loader.blocks(epoch, chunk=2))
            values = np.concatenate([block.targets[""].reshape(-1) for block in found])
            np.testing.assert_array_equal(values, np.delete(np.arange(SAMPLES), [0, 40, 41]))
            assert (pipeline.skipped() or "").startswith("3 samples of the source were skipped")


def test_elements_that_cannot_be_converted_are_skipped() -> None:
    """`to_sample` may fail. The batches of the other samples stay in their places, also after skipping."""
    with Pipeline(Stream(lambda: numbers(SAMPLES)), convert=to_sample, on_error="skip") as pipeline:
        loader = pipeline.loader(16)
        found = list(loader.blocks(0, chunk=1))
        np.testing.assert_array_equal(targets(found), np.delete(np.arange(SAMPLES), [0, 70]))
        assert (pipeline.skipped() or "").startswith("2 samples of the source were skipped")
        (block,) = itertools.islice(loader.blocks(1, chunk=1, first=5), 1)
        assert block.targets[""][0].reshape(-1).tolist() == list(range(80, 96))
        assert pipeline.skipped() is None
    for part in ([], [Fails(-1)]):
        with Pipeline(numbers(SAMPLES), part, convert=to_sample, on_error="skip") as pipeline:
            assert len(targets(blocks(pipeline))) == SAMPLES - 2
            assert (pipeline.skipped() or "").startswith("2 samples of the source were skipped")
    with Pipeline(Stream(lambda: numbers(SAMPLES)), [Cuts()], on_error="skip") as pipeline:
        assert pipeline.loader(16).batching.samples == 2 * (SAMPLES - 1)
        assert len(targets(blocks(pipeline))) == 2 * (SAMPLES - 1)
        assert (pipeline.skipped() or "").startswith("1 sample of the source was skipped")


def test_only_damaged_samples_are_refused(refused: Refused) -> None:
    """Data whose first samples, or whole passes, cannot be used is an error."""
    with Pipeline(Stream(lambda: numbers(9)), [Fails(*range(9))], on_error="skip") as pipeline, refused(DataError):
        pipeline.dataset()

    class Dwindles(GeneratingProcessor):
        def __init__(self) -> None:
            self.left = 300

        def generate(self, sample: Any) -> Iterator[Any]:
            self.left -= 1
            if self.left > 0:
                yield sample

    with Pipeline(Stream(lambda: numbers(SAMPLES)), [Dwindles()], workers=0) as pipeline, refused(DataError):
        blocks(pipeline, 5, samples=200)


# Several processes


@pytest.mark.parametrize("part", [None, Fails(-1)])
def test_shares_in_any_order(part: Any) -> None:
    """A process with two replicas has its samples in the order of the replicas, which may begin with a later one."""
    with Pipeline(Stream(lambda: numbers(18)), [] if part is None else [part], workers=0) as pipeline:
        whole = blocks(pipeline, batch_size=5)
        for share in ([2, 0], [0, 0], [4], [1, 3]):
            found = blocks(pipeline, batch_size=5, share=lambda size, share=share: np.asarray(share) % size)
            for ours, theirs in zip(found, whole, strict=True):
                picked = np.asarray(share) % theirs.batch_size
                np.testing.assert_array_equal(ours.targets[""], theirs.targets[""][:, picked])


def test_data_that_is_split_already_is_refused(refused: Refused) -> None:
    """`split_dataset_by_node` would leave out most samples."""
    from datasets.distributed import split_dataset_by_node

    split = split_dataset_by_node(sources.hugging_face_stream(), rank=1, world_size=2)
    with refused(DataError), Pipeline(split) as pipeline:
        pipeline.dataset()
    with refused(DataError), Pipeline(Stream(lambda: split)) as pipeline:
        pipeline.dataset()
    both = [
        Pipeline(
            Stream(
                lambda index, count: split_dataset_by_node(sources.hugging_face_stream(), index, count), sharded=True
            ),
            convert=lambda row: (np.asarray(row["x"], "float32"), np.asarray(row["y"], "float32")),
            process=(index, 2),
        ).loader(10, samples=100)
        for index in range(2)
    ]
    found = np.concatenate([targets(list(loader.blocks(0, chunk=1))) for loader in both])
    np.testing.assert_array_equal(np.sort(found), np.sort(Y[:, 0]))


# States


class Drifting:
    """An iterator whose state cannot always be saved."""

    def __init__(self, bad: range, size: int = 0) -> None:
        self.bad, self.size, self.count = bad, size, 0

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        if self.count == SAMPLES:
            raise StopIteration
        self.count += 1
        return X[self.count - 1], np.float32([self.count - 1])

    def get_state(self) -> Any:
        bad = self.count in self.bad
        return {"count": np.int64(self.count) if bad and not self.size else self.count, "rest": "." * bad * self.size}

    def set_state(self, state: Any) -> None:
        self.count = state["count"]


@pytest.fixture
def eager_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save a state before each element."""
    monkeypatch.setattr(stream_reader, "STATE_SECONDS", 0)
    monkeypatch.setattr(stream_reader, "STATE_SHARE", float("inf"))


def test_the_plan_shows_that_an_order_is_not_repeated() -> None:
    """Reading again is exact only if it gives the same elements."""

    def drawn(seed: int | None) -> Iterator[Any]:
        random = np.random.default_rng(seed)
        for _ in range(50):
            yield random.random(3, np.float32), np.float32(0)

    for seed, ending in ((1, "up to the position"), (None, "not exactly: its elements differ each time they are read")):
        with Pipeline(Stream(lambda seed=seed: drawn(seed))) as pipeline:
            assert pipeline.dataset().describe().endswith(ending)  # type: ignore[attr-defined]


@pytest.mark.usefixtures("eager_states")
@pytest.mark.parametrize("size", [0, 100])
def test_states_that_cannot_be_saved(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    """A state in between that is too large or not JSON is left out, with a warning. Reading continues exactly."""
    monkeypatch.setattr(stream_reader, "STATE_BYTES", 90)
    with Pipeline(Stream(lambda: Drifting(range(40, 60), size))) as pipeline:
        loader = pipeline.loader(10)
        dataset = loader.dataset
        assert isinstance(dataset, StreamDataset)
        assert dataset.resumable
        with caplog.at_level(logging.WARNING):
            list(loader.blocks(0, chunk=1))
        state = dataset.state(50)
        assert 30 < state["sample"] < 40
        assert len(caplog.records) == 1
        assert ("has grown to" if size else "cannot be saved") in caplog.text
    with Pipeline(Stream(lambda: Drifting(range(0)))) as pipeline:
        loader = pipeline.loader(10)
        assert isinstance(loader.dataset, StreamDataset)
        loader.dataset.restore(state)
        assert targets(list(loader.blocks(0, chunk=1, first=5))).tolist() == list(range(50, 100))


@pytest.mark.usefixtures("eager_states")
@pytest.mark.parametrize("window", [pytest.param(0, marks=pytest.mark.slow), 7])
@pytest.mark.parametrize("part", [None, Fails(0, 17, 40, 41), Cuts()])
@pytest.mark.parametrize("samples", [None, 48])
@pytest.mark.parametrize("batched", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_everything_together_is_resumed(window: int, part: Any, samples: int | None, batched: bool) -> None:
    """Shuffled groups, skipped and generated samples, and epochs of any length continue exactly at every batch."""
    if batched:
        rows = [(X[n : n + 8], np.arange(n, min(n + 8, SAMPLES), dtype="float32")) for n in range(0, SAMPLES, 8)]
        data = Stream(lambda: Listed(rows), batched=True)
    else:
        data = Stream(lambda: Drifting(range(0)))

    def opened() -> Any:
        parts = [sources.Jitter()] if part is None else [part, sources.Jitter()]
        pipeline = Pipeline(data, parts, window=window, on_error="skip", workers=0, seed=5)
        return pipeline.loader(8, samples=samples)

    def values(loader: Any, epoch: int, step: int) -> list[Any]:
        found = [
            block for each in range(epoch, 4) for block in loader.blocks(each, chunk=3, first=step * (each == epoch))
        ]
        return [np.concatenate([block.inputs[""].reshape(-1, 3) for block in found]),
                np.concatenate([block.targets[""].reshape(-1) for block in found])]  # fmt: skip

    loader = opened()
    whole: list[Any] = []
    states = {}
    for epoch in range(4):
        for step, block in enumerate(loader.blocks(epoch, chunk=1)):
            if (7 * epoch + step) % 5 == 2:
                states[epoch, step] = loader.dataset.state(loader.batching.start(epoch, step)), len(whole)
            whole.append((block.inputs[""].reshape(-1, 3), block.targets[""].reshape(-1)))
    if samples is None:
        of_an_epoch = np.sort(np.concatenate([each[1] for each in whole[: len(whole) // 4]]))
        np.testing.assert_array_equal(of_an_epoch, np.sort(expected(part)))
    assert len({state["sample"] for state, _ in states.values()}) > 1
    for (epoch, step), (state, first) in states.items():
        again = opened()
        again.dataset.restore(state)
        inputs, labels = values(again, epoch, step)
        np.testing.assert_array_equal(inputs, np.concatenate([each[0] for each in whole[first:]]))
        np.testing.assert_array_equal(labels, np.concatenate([each[1] for each in whole[first:]]))


def expected(part: Any) -> Any:
    """Return the targets of an epoch that is a pass."""
    numbers = np.arange(SAMPLES, dtype="float32")
    if isinstance(part, Fails):
        return np.setdiff1d(numbers, part.numbers)
    if part is None:
        return numbers
    numbers = np.delete(numbers, 50)
    return np.concatenate([numbers, -numbers])


class Listed:
    """An iterator over a list, with a state."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows, self.next = rows, 0

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        if self.next == len(self.rows):
            raise StopIteration
        self.next += 1
        return self.rows[self.next - 1]

    def get_state(self) -> Any:
        return self.next

    def set_state(self, state: Any) -> None:
        self.next = state


def test_large_states_are_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `tf.data.Dataset` with a large shuffle buffer is read again, which the plan shows. A small one is saved."""
    monkeypatch.setattr(stream_positions, "STATE_BYTES", 10_000)
    data = tensors().repeat(20).batch(10)
    endings = {1: "from its saved state", 100: r"its state has \d+ KiB, more than 10 KiB"}
    for size, ending in endings.items():
        with Pipeline(data.shuffle(size, seed=1)) as pipeline:
            dataset = pipeline.dataset()
            assert isinstance(dataset, StreamDataset)
            assert dataset.resumable is (size == 1)
            assert re.search(f"{ending}$", dataset.describe())


def test_positions_reach_back() -> None:
    """The positions stay within their limits, and one before each sample that may still be needed is kept."""
    positions = Positions(Position(sample=0, element=0, state=None))
    for sample in range(1, 1000):
        nbytes = 0 if sample % 500 else stream_positions.KEPT_BYTES
        positions.add(Position(sample=sample, element=sample, state="x", nbytes=nbytes))
        assert len(positions._later) <= stream_positions.MOST_STATES
    assert positions.before(20).sample == 1
    assert 400 < positions.before(998).sample <= 998
    found = positions.before(990)
    positions.forget(found)
    assert positions.before(5).sample == 0
    assert positions.before(995).sample >= found.sample


def test_parts_of_one_stream_have_states_of_their_own() -> None:
    """Validation on `take` of a stream does not disturb the position in its `skip`, nor the same object itself."""
    whole = sources.hugging_face_stream()

    def convert(element: Any) -> Any:
        return np.asarray(element["x"], "float32"), np.asarray(element["y"], "float32")

    def elements(data: Any) -> Any:
        dataset = Pipeline(data, convert=convert).dataset()
        assert isinstance(dataset, StreamDataset)
        return dataset.source.elements()

    for train, val in ((whole.skip(20), whole.take(20)), (whole, whole)):
        wanted = [element["y"] for element in train]
        first, other = elements(train), elements(val)
        found = [next(first)["y"] for _ in range(30)]
        for _ in range(7):
            next(other)
        state = first.state()
        found += [next(first)["y"] for _ in range(30)]
        next(other)
        assert found == wanted[:60]
        again = elements(train)
        again.restore(state)
        assert [next(again)["y"] for _ in range(30)] == wanted[30:60]
        assert next(elements(val))["y"] == Y[0].tolist()


def test_skipping_does_not_convert() -> None:
    """Samples before the position are dropped before `to_sample` and all processors."""
    seen: list[float] = []

    def convert(element: Any) -> Any:
        seen.append(float(element[1][0]))
        return element

    with Pipeline(Stream(lambda: numbers(SAMPLES), length=SAMPLES), convert=convert, workers=0) as pipeline:
        loader = pipeline.loader(10)
        seen.clear()
        next(loader.blocks(0, chunk=1, first=8))
    assert min(seen) == 80


def test_a_changed_shuffle_buffer_is_refused(refused: Refused) -> None:
    """Its groups would lose some elements and double others."""
    with Pipeline(Stream(sources.pairs), window=8) as pipeline:
        state = pipeline.dataset().state(0)  # type: ignore[attr-defined]
    with Pipeline(Stream(sources.pairs), window=9) as pipeline, refused(DataError):
        pipeline.dataset().restore(state)  # type: ignore[attr-defined]


def test_a_run_whose_data_is_no_longer_a_stream(make_trainer: Any, refused: Refused) -> None:
    """Within an epoch, a stream cannot be replaced by samples in memory, which have another order."""
    cls = sources.points("generator")
    words = ("--trainer.tune", "off")
    trainer = make_trainer(cls, *words, exports=False)
    trainer.state.compilation = trainer.compile()
    trainer.state.step = 3
    stored = trainer.state.snapshot({})
    other = make_trainer(sources.points("pairs"), *words, exports=False)
    with refused(TrainingError):
        other.restore(stored)


# Refusals


def several_processes() -> Any:
    """Return a `PyDataset` that asks for worker processes."""
    import keras

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> Any:
            return X, Y

    return Batches(workers=2, use_multiprocessing=True)


@pytest.mark.parametrize(
    "data",
    [several_processes, lambda: sources.grain_map().repeat(), lambda: Stream(lambda: 1 / 0)],
    ids=["PyDataset with processes", "repeated without end", "a function that fails"],
)
def test_refused_with_a_way(data: Any, refused: Refused) -> None:
    """Unusable data is refused in a sentence that names the lines to write."""
    with refused(DataError), Pipeline(data()) as pipeline:
        pipeline.loader(16)


def test_dropping_batches_is_refused(refused: Refused) -> None:
    """The option does not apply to batches of the source."""
    with Pipeline(sources.tf_batches()) as pipeline, refused(DataError):
        pipeline.loader(BATCH, drop_remainder=True)


class UnbatchedLoader(sources.TorchLoader):
    """A loader as PyTorch's without batches."""

    batch_size: Any = None

    def __len__(self) -> int:
        raise TypeError("the dataset is an iterable")

    def __iter__(self) -> Iterator[Any]:
        return iter(sources.pairs())


def test_a_loader_without_batches() -> None:
    """It yields samples, and need not have a length."""
    with Pipeline(UnbatchedLoader()) as pipeline:
        np.testing.assert_array_equal(targets(blocks(pipeline)), Y[:, 0])


def test_class_weights_of_batches(make_trainer: Any) -> None:
    """`balanced` counts every sample of a stream of batches once, whose size divides no other number."""

    class Classes(sources.Points):
        def train_data(self) -> Any:
            labels = (np.arange(3000) % 3 == 0).astype("int32")
            parts = [slice(n, n + 7) for n in range(0, 3000, 7)]
            return Stream(lambda: iter([(np.zeros((3000, 3), "float32")[p], labels[p]) for p in parts]), batched=True)

        def val_data(self) -> Any:
            return None

    trainer = make_trainer(Classes, "--train.class_weight", "balanced", exports=False)
    np.testing.assert_allclose(trainer.data.class_weights, [0.75, 1.5])


# Validation, LAV and prediction


class Iterators(sources.Points):
    """Data of iterators with a state, which are new in each call, and of batches to predict."""

    def train_data(self) -> Any:
        return sources.Counted()

    val_data = train_data

    def predict_data(self) -> Any:
        return sources.tf_batches()


def test_lav_and_predict_read_streams(make_trainer: Any, tmp_path: Any) -> None:
    """LAV reads an iterator more than once, and prediction reads the batches of a stream."""
    from aipcore.prediction import Predictor
    from aipcore.prediction.lav import run_lav
    from aipcore.prediction.locate import find_model

    trainer = make_trainer(Iterators, output="out")
    history = trainer.fit().history
    ((score,), _) = run_lav(find_model(tmp_path / "out" / "export"), trainer.scenario)
    assert score.values["loss"] == pytest.approx(history[-1]["val_loss"], rel=1e-5)
    predictor = Predictor.load(tmp_path / "out" / "export", scenario=Iterators)
    found = np.stack([each.raw[""] for each in predictor.predict_data()])
    assert found.shape == (SAMPLES, 1)
    wanted = np.concatenate([trainer.model(x).numpy() for x, _ in sources.tf_batches()])
    np.testing.assert_allclose(np.sort(found[:, 0]), np.sort(wanted[:, 0]), rtol=1e-5, atol=1e-6)


def test_inputs_alone_are_predicted() -> None:
    """For prediction, the targets of a stream are left out before processing."""
    seen: list[Any] = []

    def look(sample: Sample) -> Sample:
        seen.append(sample.targets)
        return sample

    with Pipeline(Stream(sources.pairs), [look], mode=Mode.PREDICTION, workers=0) as pipeline:
        assert blocks(pipeline)[0].targets == {}
    assert set(seen) == {None}
    with Pipeline(sources.tf_batches(), mode=Mode.PREDICTION) as pipeline:
        assert blocks(pipeline)[0].targets == {}


# Sharded streams


def part_of(index: int, count: int) -> Any:
    """Return this process's samples: those whose number has the remainder `index`."""
    return sources.Counted() if count == 1 else Sharded(index, count)


class Sharded:
    """An iterator over every `count`-th sample, with a state."""

    def __init__(self, index: int, count: int) -> None:
        self.next, self.count = index, count

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        if self.next >= SAMPLES - 10:
            raise StopIteration
        self.next += self.count
        return X[self.next - self.count], np.float32([self.next - self.count])

    def get_state(self) -> Any:
        return self.next

    def set_state(self, state: Any) -> None:
        self.next = state


@pytest.mark.usefixtures("eager_states")
def test_sharded_streams() -> None:
    """Each process reads samples of its own, with random numbers of its own, and continues at its own position."""

    def opened(index: int, state: Any = None) -> tuple[Pipeline, Any]:
        data = Stream(part_of, sharded=True)
        pipeline = Pipeline(data, [sources.Jitter()], process=(index, 2), workers=0)
        loader = pipeline.loader(16, samples=64)
        # The samples of two replicas per process.
        loader.share = lambda size: np.arange(size // 2) + index * size // 2
        if state is not None:
            loader.dataset.restore(state)  # type: ignore[attr-defined]
        return pipeline, loader

    whole, states = [], []
    for index in range(2):
        _, loader = opened(index)
        whole.append([block for epoch in range(3) for block in loader.blocks(epoch, chunk=2)])
        expected = list(range(index, SAMPLES - 10, 2))
        values = np.concatenate([block.targets[""].reshape(-1) for block in whole[index]])
        np.testing.assert_array_equal(values, np.resize(expected, 96))
        states.append(loader.dataset.state(loader.batching.start(1, 2)))
        assert 0 < states[-1]["sample"] <= 48
    noise = [X[block.targets[""].astype(int)[..., 0]] - block.inputs[""] for block in (whole[0][0], whole[1][0])]
    assert not np.any(noise[0] == noise[1])
    for index in range(2):
        _, loader = opened(index, {"processes": states})
        for ours, theirs in zip(loader.blocks(1, chunk=2, first=2), whole[index][3:4], strict=True):
            np.testing.assert_array_equal(ours.inputs[""], theirs.inputs[""])


def test_sharded_streams_are_refused(refused: Refused) -> None:
    """Unequal parts of a batch, unknown epochs, and a position of another number of processes are errors."""
    with refused(DataError):
        Stream(sources.pairs(), sharded=True)
    data = Stream(part_of, sharded=True)

    def opened(**arguments: Any) -> Pipeline:
        return Pipeline(data, process=(1, 2), **arguments)

    with opened() as pipeline, refused(DataError):
        pipeline.loader(16)
    with opened() as pipeline, refused(DataError):
        pipeline.loader(15, samples=45)
    with opened(on_error="skip") as pipeline, refused(DataError):
        pipeline.loader(16, samples=64)
    with Pipeline(data) as pipeline:
        assert len(pipeline) == SAMPLES
        state = pipeline.dataset().state(0)  # type: ignore[attr-defined]
    with opened() as pipeline, refused(DataError):
        pipeline.dataset().restore(state)  # type: ignore[attr-defined]
