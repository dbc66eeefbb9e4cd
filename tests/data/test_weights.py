"""Sample weights and class weights: every kind of source and pipeline, and invalid weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from aipcore.data.adapters import as_dataset
from aipcore.data.class_weight import balanced, class_ids, weight_table
from aipcore.data.dataset import MemoryDataset
from aipcore.data.device_cache import IndexDataset, resident
from aipcore.data.loader import DataLoader
from aipcore.data.params import TrainDataParams
from aipcore.data.pipeline import Pipeline
from aipcore.data.random import BatchRandom
from aipcore.data.worker_pool import WorkerPool
from aipcore.errors import DataError, ParamsError
from aipcore.params import Layer, resolve, to_dict
from aipcore.scenario import (
    ColumnSpec,
    GeneratingProcessor,
    Mode,
    Processor,
    RandomBatchProcessor,
    RandomProcessor,
    Sample,
    SampleBatch,
)

COUNT = 40
IDS = np.arange(COUNT)


def sample(index: int, form: str = "number") -> Sample:
    """Return a sample with half its index as weight, in one of the accepted forms."""
    half = index / 2
    forms: dict[str, Any] = {
        "none": None,
        "number": half,
        "scalar": np.float64(half),
        "positions": np.array([half, half + 0.5]),
        "named": {"a": half, "b": [half, half + 0.5], "c": None},
    }
    targets = np.full(2, index, np.int32)
    return Sample(inputs=np.full(3, index, np.float32), targets=targets, meta=index, weight=forms[form])


class Files:
    """Samples read by index."""

    def __init__(self, form: str = "number") -> None:
        self.form = form

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Sample:
        return sample(index, self.form)


def stacked(weights: Any) -> Any:
    """Return stacked inputs and targets, which are the sample indices, with weights."""
    return np.stack([IDS] * 3, axis=1), np.stack([IDS] * 2, axis=1), weights


SOURCES: dict[str, Any] = {
    "arrays": lambda: stacked(IDS / 2),
    "arrays of whole numbers": lambda: stacked(IDS),
    "arrays by name": lambda: stacked({"a": IDS / 2, "b": np.stack([IDS / 2, IDS / 2 + 0.5], 1), "c": None}),
    "generator": lambda: (sample(index) for index in range(COUNT)),
    "list": lambda: [sample(index, "scalar") for index in range(COUNT)],
    "by index": Files,
    "positions by index": lambda: Files("positions"),
    "named by index": lambda: Files("named"),
}


class Same(Processor):
    def process(self, sample: Sample) -> Sample:
        return attrs.evolve(sample, inputs=sample.inputs + 1)


class Jitter(RandomProcessor):
    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return attrs.evolve(sample, inputs=sample.inputs + rng.random(3, dtype=np.float32))


class Shift(RandomBatchProcessor):
    def process(self, batch: SampleBatch, random: BatchRandom) -> SampleBatch:
        return attrs.evolve(batch, inputs=(batch.inputs + random.random(3)).astype(np.float32))


class Twice(GeneratingProcessor):
    def generate(self, sample: Sample) -> list[Sample]:
        return [sample, sample]


class Fussy(Processor):
    def process(self, sample: Sample) -> Sample:
        if sample.meta is not None and sample.meta % 10 == 3:
            raise ValueError("too hard")
        return sample


class Cut(RandomProcessor):
    """A processor that cuts each sample, with a weight per position, to another length."""

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        size = 1 + sample.meta % 4
        weight = np.full(size, sample.meta / 2)
        return attrs.evolve(sample, inputs=np.ones(size, np.float32), targets=np.full(size, sample.meta), weight=weight)


PIPELINES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "no processors": ([], {}),
    "kept": ([Same()], {}),
    "read again": ([Same()], {"preload": "off"}),
    "random": ([Same(), Jitter()], {}),
    "batches": ([Same(), Shift()], {}),
    "batches alone": ([Shift(), Jitter()], {"preload": "off"}),
    "generated": ([Twice(), Jitter()], {"preload": "off"}),
    "skipped": ([Fussy(), Jitter()], {"preload": "off", "on_error": "skip"}),
}


@pytest.fixture(scope="module")
def two() -> Iterator[WorkerPool]:
    """Two workers for all tests of the module."""
    workers = WorkerPool(2)
    yield workers
    workers.close()


def blocks(pipeline: Pipeline, **how: Any) -> list[Any]:
    """Return the blocks of an epoch, some of them padded."""
    return list(pipeline.loader(8, shuffle=True, **how).blocks(1, chunk=3, room=3))


@pytest.mark.parametrize("how", PIPELINES)
@pytest.mark.parametrize("kind", SOURCES)
def test_weights_stay_with_their_samples(kind: str, how: str, two: WorkerPool) -> None:
    """Each source and pipeline, with and without workers, keeps the weights of each sample, as float32."""
    processors, options = PIPELINES[how]
    factor = 1.0 if "whole" in kind else 0.5
    for workers in (0, two) if kind in ("arrays by name", "named by index", "by index") else (0,):
        with Pipeline(SOURCES[kind](), processors, workers=workers, **options) as pipeline:
            specs = pipeline.dataset().specs()[2]
            assert list(specs) == (["a", "b"] if "name" in kind else [""])
            seen = 0
            for block in blocks(pipeline):
                assert block.weights.keys() == specs.keys()
                ids = block.targets[""][: block.steps, :, 0]
                seen += ids.size
                for name, column in block.weights.items():
                    assert column.dtype == np.float32
                    assert specs[name] == ColumnSpec(shape=column.shape[2:], dtype="float32")
                    wanted = ids * factor if column.ndim == 2 else np.stack([ids * factor, ids * factor + 0.5], -1)
                    np.testing.assert_array_equal(column[: block.steps], wanted)
            assert seen >= COUNT * 0.8


@pytest.mark.parametrize("kind", ["arrays", "by index"])
@pytest.mark.parametrize("how", PIPELINES)
def test_no_weights(kind: str, how: str) -> None:
    """Without weights the third side is empty everywhere, and a processor may fill it."""
    processors, options = PIPELINES[how]
    source = stacked(None) if kind == "arrays" else Files("none")
    with Pipeline(source, processors, workers=0, **options) as pipeline:
        assert pipeline.dataset().specs()[2] == {}
        assert pipeline.dataset().batch(np.arange(3)).weights == {}
        assert all(block.weights == {} for block in blocks(pipeline))

    def weigh(sample: Sample) -> Sample:
        return attrs.evolve(sample, weight=float(sample.targets[0]))

    with Pipeline(Files("none"), [weigh, *processors], workers=0, **options) as pipeline:
        for block in blocks(pipeline):
            np.testing.assert_array_equal(block.weights[""], block.targets[""][..., 0])


def test_processors_change_weights() -> None:
    """A sample and a batch processor multiply the weights; each sample is the same as alone."""

    class Double(RandomBatchProcessor):
        def process(self, batch: SampleBatch, random: BatchRandom) -> SampleBatch:
            return attrs.evolve(batch, weight=batch.weight * 2)

    pipeline = Pipeline(Files(), [lambda each: attrs.evolve(each, weight=each.weight * 3), Double()], workers=0)
    for block in blocks(pipeline):
        np.testing.assert_array_equal(block.weights[""][: block.steps], 3.0 * block.targets[""][: block.steps, :, 0])
    assert float(pipeline.sample(5).weight) == 15


@pytest.mark.parametrize("source", ["in memory", "on demand"])
def test_padded_with_zeros(source: str, two: WorkerPool) -> None:
    """Weights of positions are padded with 0, independent of the padding of the targets."""
    if source == "in memory":
        rng = np.random.default_rng(0)
        samples = [Cut().process(sample(index), rng) for index in range(COUNT)]
        pipelines = [Pipeline(samples, padding={"targets": -1}, workers=0)]
        assert not pipelines[0].dataset().uniform
    else:
        pipelines = [Pipeline(Files(), [Cut()], padding={"targets": -1}, workers=workers) for workers in (0, two)]
    for pipeline in pipelines:
        assert pipeline.dataset().specs()[2] == {"": ColumnSpec(shape=(None,), dtype="float32")}
        for block in blocks(pipeline):
            targets = block.targets[""]
            assert (targets == -1).any()
            np.testing.assert_array_equal(block.weights[""], np.where(targets == -1, 0, targets / 2))


def test_a_share_of_each_batch() -> None:
    """A worker gets the weights of its own samples."""
    pipeline = Pipeline(Files("named"), [Fussy()], on_error="skip", preload="off", workers=0)
    whole = pipeline.loader(8, shuffle=True)
    wanted = np.array([1, 3])
    share = DataLoader(whole.dataset, whole.order, whole.batching, lambda size: wanted[wanted < size])
    for all_of_it, part in zip(whole.blocks(0, chunk=2), share.blocks(0, chunk=2), strict=True):
        for name, column in all_of_it.weights.items():
            np.testing.assert_array_equal(part.weights[name], column[:, wanted])


def test_on_the_device() -> None:
    """Data on the device includes the weights, so that none are sent with the sample indices."""
    dataset = as_dataset(stacked(IDS), "x")
    assert resident(dataset) is dataset
    numbers = IndexDataset(dataset)
    assert numbers.specs()[2] == {}
    assert numbers.batch(np.arange(2)).weights == {}
    bulky = as_dataset((np.zeros((1, 1)), np.zeros(1), np.broadcast_to(np.float32(0), (1, 2**27))), "x")
    assert isinstance(bulky, MemoryDataset)
    assert resident(bulky) is None


@pytest.mark.parametrize("mode", [Mode.PREDICTION, Mode.TARGETS])
@pytest.mark.parametrize("processors", [[], [Same()]])
def test_prediction_ignores_weights(mode: Mode, processors: list[Any]) -> None:
    """Without a loss, weights may be incomplete."""
    some = [attrs.evolve(sample(index), weight=index or None) for index in range(4)]
    for source in (some, iter(some), stacked(IDS), Files("named")):
        pipeline = Pipeline(source, processors, mode=mode, workers=0)
        assert all(block.weights == {} for block in blocks(pipeline))


def test_declared_specs(refused: Any) -> None:
    """A pair of specs leaves the weights unchanged; a third mapping declares and checks them."""
    inputs, targets = {"": ColumnSpec(shape=(3,), dtype="float32")}, {"": ColumnSpec(shape=(2,), dtype="int32")}
    found = {"": ColumnSpec(shape=(2,), dtype="float32")}
    open_ended = {"": ColumnSpec(shape=(None,), dtype="float32")}
    for preload in ("on", "off"):
        how: dict[str, Any] = {"preload": preload, "workers": 0}
        assert Pipeline(Files("positions"), specs=(inputs, targets), **how).dataset().specs()[2] == found
        three = Pipeline(Files("positions"), specs=(inputs, targets, open_ended), **how)
        assert three.dataset().specs()[2] == open_ended
        with refused(DataError):
            Pipeline(Files(), specs=(inputs, targets, found), **how).dataset()


@pytest.mark.parametrize(
    "data",
    [
        [sample(0), sample(1, "none")],
        [sample(0, "none"), sample(1)],
        [sample(0), attrs.evolve(sample(1), weight={"c": None})],
        [attrs.evolve(sample(0), weight="heavy")],
        [attrs.evolve(sample(0), weight={"a": 1j})],
        [attrs.evolve(sample(0), weight=[[1], [1, 2]])],
        [sample(0), sample(1, "named")],
        [sample(0), sample(1, "positions")],
        stacked([[1], [1, 2]]),
        stacked(IDS[1:]),
        stacked(2.0),
        stacked(np.array(["a"] * COUNT)),
    ],
)
def test_wrong_weights_are_refused(data: Any, refused: Any) -> None:
    """One sentence names the invalid weight and the reason."""
    with refused(DataError):
        as_dataset(data, "x")


def test_unweighted_sample_is_named_by_its_own_number(refused: Any) -> None:
    """The sample index is right even in a subset, or after skipped samples."""

    def only_first(each: Sample) -> Sample:
        if each.meta == 3:
            raise ValueError("too hard")
        return each if each.meta < 30 else attrs.evolve(each, weight=None)

    for preload in ("on", "off"):
        pipeline = Pipeline(Files(), [only_first], preload=preload, on_error="skip", workers=0)
        with refused(DataError):
            pipeline.dataset()


class SomeUnfit(RandomProcessor):
    """Samples in which number 35, not among the first, has a weight of another kind."""

    def __init__(self, weight: Any) -> None:
        self.weight = weight

    def process(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return attrs.evolve(sample, weight=self.weight) if sample.meta == 37 else sample


@pytest.mark.parametrize(
    ("form", "weight"),
    [
        ("number", None),
        ("none", 2.0),
        ("number", "heavy"),
        ("number", [1, 2]),
        ("named", 2.0),
        ("named", {"a": 2.0}),
    ],
)
def test_wrong_weights_on_demand(form: str, weight: Any, refused: Any) -> None:
    """An invalid weight of a sample made on demand is an error that names it, or the sample is left out."""
    source = [sample(index, form) for index in range(60)]
    with refused(DataError):
        blocks(Pipeline(source, [SomeUnfit(weight)], workers=0))
    pipeline = Pipeline(source, [SomeUnfit(weight)], workers=0, on_error="skip")
    assert sum(block.steps * block.batch_size for block in blocks(pipeline)) == 59
    assert "1 sample of the source was skipped" in str(pipeline.skipped())


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.where(IDS == 7, np.nan, 1), "Sample 7 of x has nan in its weight. Training needs finite"),
        ({"a": np.where(IDS == 3, np.inf, 1)}, "Sample 3 of x has inf in its weight 'a'"),
        (np.ones((COUNT, 3)), r"The weight of sample 0 of x has shape \(3,\), but its target has shape \(2,\)"),
        (np.ones((COUNT, 2, 2)), r"The weight of sample 0 of x has shape \(2, 2\)"),
        (-np.ones(COUNT), None),
        (np.ones((COUNT, 1)), None),
        (np.ones((COUNT, 2)), None),
    ],
)
def test_sanity_of_weights(weights: Any, message: str | None, refused: Any) -> None:
    """Before training, weights must be finite and fit their targets; negative ones are allowed, as in Keras."""
    from aipcore.training.sanity import check_data

    dataset = as_dataset(stacked(weights), "x")
    if message is None:
        check_data(dataset, "x")
        return
    with refused(DataError):
        check_data(dataset, "x")


def test_sanity_of_varying_weights(refused: Any) -> None:
    """If samples vary in size, each is checked."""
    from aipcore.training.sanity import check_data

    samples = [Sample(inputs=np.ones(n), targets=np.ones(n), weight=np.ones(min(n, 3))) for n in (1, 2, 3, 4)]
    with refused(DataError):
        check_data(as_dataset(samples, "x"), "x")


def table(entries: tuple[str, ...], targets: Any, **how: Any) -> Any:
    """Return the table for stacked targets."""
    targets = targets if isinstance(targets, dict) else np.asarray(targets)
    size = len(next(iter(targets.values())) if isinstance(targets, dict) else targets)
    dataset = Pipeline((np.zeros((size, 1)), targets), workers=0, **how).dataset()
    return weight_table(TrainDataParams(class_weight=entries), dataset, "x")


@pytest.mark.parametrize(
    "targets",
    [
        [0, 3, 1, 3],
        [[0.0], [3.0], [1.0], [2.0]],
        np.eye(4)[[2, 0, 3]],
        [[0.1, 0.6, 0.3], [0.7, 0.2, 0.1]],
        np.array([[True, False], [False, True]]),
        [-1, 5, 1],
    ],
)
def test_class_weights_equal_keras(targets: Any) -> None:
    """Each sample gets the same weight as in Keras, for each form of targets; `balanced` counts the same classes."""
    import tensorflow as tf
    from keras.src.trainers.data_adapters.data_adapter_utils import class_weight_to_sample_weights

    from aipcore.scenario import Scenario, ScenarioParams
    from aipcore.scenario.losses import Objective
    from aipcore.scenario.losses import class_ids as tensor_ids

    class OneLoss(Scenario):
        params_class = ScenarioParams

        def losses(self) -> Any:
            return "mse"

    targets = np.asarray(targets)
    losses = Objective(OneLoss(ScenarioParams()), [""], [""], class_weights=table(("1=5", "0=0.5"), targets))
    ours = losses.sample_weights({"": tf.constant(targets)}, {})[""]
    assert ours.dtype == tf.float32
    np.testing.assert_array_equal(ours, class_weight_to_sample_weights(targets, {0: 0.5, 1: 5.0}))
    np.testing.assert_array_equal(class_ids(targets), tensor_ids(tf.constant(targets)))


def test_balanced() -> None:
    """Each class present has the same total weight, also in scikit-learn's documented cases."""
    np.testing.assert_allclose(table(("balanced",), [0, 0, 0, 1]), [2 / 3, 2])
    np.testing.assert_allclose(table(("balanced",), [[2.0], [0.0], [0.0]]), [0.75, 1, 1.5])
    np.testing.assert_allclose(table(("balanced",), np.eye(3)[[0, 2, 2, 2]]), [2, 1, 2 / 3], rtol=1e-6)
    assert balanced(np.array([5, 0])).tolist() == [1, 1]


class Classes:
    """Samples read by index, whose classes a processor finds."""

    def __len__(self) -> int:
        return 3000

    def __getitem__(self, index: int) -> Sample:
        return Sample(inputs=np.zeros(index % 3 + 1), targets=str(index % 10 == 0))


def to_class(sample: Sample) -> Sample:
    """Convert text to a class."""
    return attrs.evolve(sample, targets=["False", "True"].index(sample.targets))


@pytest.mark.parametrize("preload", ["on", "off"])
def test_balanced_over_processed_samples(preload: Any) -> None:
    """Targets are counted after processing, for cached samples and for those made on demand."""
    dataset = Pipeline(Classes(), [to_class], preload=preload, workers=0).dataset()
    made = weight_table(TrainDataParams(class_weight=("balanced",)), dataset, "x")
    assert made is not None
    np.testing.assert_allclose(made, [3000 / (2 * 2700), 3000 / (2 * 300)])


BOTH = ("balanced",), ("0=1", "1=5")


@pytest.mark.parametrize("entries", BOTH)
@pytest.mark.parametrize(
    "targets",
    [
        {"a": IDS, "b": IDS},
        IDS / 3,
        [[0, 1, 0], [0, 1, 1]],
        [[0.5, 0.5], [1.5, -0.5]],
        np.zeros((4, 5, 6)),
        np.array(["a", "b"]),
    ],
)
def test_targets_that_are_not_classes(targets: Any, entries: tuple[str, ...], refused: Any) -> None:
    """Class weights require targets that are one class each."""
    with refused(DataError):
        table(entries, targets)


def test_class_weights_that_cannot_be_used(refused: Any) -> None:
    """Class weights are refused with sample weights (as in Keras), missing classes, and negative classes if counted."""
    with refused(DataError):
        weight_table(TrainDataParams(class_weight=("balanced",)), as_dataset(stacked(IDS), "x"), "x")
    with refused(DataError):
        table(("3=2",), np.eye(3))
    with refused(DataError):
        table(("balanced",), [0, -1])
    assert weight_table(TrainDataParams(), as_dataset(stacked(None), "x"), "x") is None


@pytest.mark.parametrize("entries", [("0",), (), ("0=nan",), ("0=x",), ("-1=2",), ("balanced", "0=1"), ("0=1", "0=2")])
def test_class_weight_option_is_checked(entries: tuple[str, ...], refused: Any) -> None:
    """One sentence describes the accepted values."""
    with refused(ParamsError):
        TrainDataParams(class_weight=entries)


def test_class_weight_from_words_and_files(tmp_path: Path) -> None:
    """The option is read from the command line and from a file, and written back."""
    words = resolve(TrainDataParams, [Layer.from_arguments(["--class_weight", "0=1", "1=5"])]).value
    assert words.class_weight == ("0=1", "1=5")
    assert resolve(TrainDataParams, [Layer.from_arguments(["--class-weight", "none"])]).value.class_weight is None
    assert resolve(TrainDataParams, [Layer.from_mapping("file", to_dict(words))]).value == words


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("p.yaml", "class_weight: [balanced]", ("balanced",)),
        ("p.yaml", "class_weight: balanced", ("balanced",)),
        ("p.yaml", "class_weight: {0: 1, 2: 0.5}", ("0=1", "2=0.5")),
        ("p.json", '{"class_weight": {"0": 1, "2": 0.5}}', ("0=1", "2=0.5")),
        ("p.json", '{"class_weight": "balanced"}', ("balanced",)),
        ("p.yaml", "class_weight: null", None),
    ],
)
def test_class_weight_as_a_mapping(name: str, text: str, expected: Any, tmp_path: Path) -> None:
    """A mapping or a bare word has the same meaning in a file, in `defaults`, in Python and in a constructor."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    read = Layer.from_file(tmp_path / name)
    given = read.values["class_weight"]
    for layer in (read, Layer.of_scenario("Mine", read.values), Layer.from_mapping("params", {"class-weight": given})):
        value = resolve(TrainDataParams, [layer]).value
        assert value == TrainDataParams(class_weight=given)
        assert value.class_weight == expected


@pytest.mark.parametrize("given", [{"x": 1}, {0: "much"}, {0: float("nan")}, {-1: 2}, {}, {0: None}, "0=1", 3, True])
def test_class_weight_as_a_wrong_mapping(given: Any, refused: Any) -> None:
    """Invalid classes or weights are refused in one sentence, in Python and in a file."""
    with refused(ParamsError):
        resolve(TrainDataParams, [Layer.from_mapping("params", {"class_weight": given})])
    with refused(ParamsError):
        TrainDataParams(class_weight=given)


@pytest.mark.parametrize(
    ("words", "weights", "text"),
    [
        ([], IDS / 2, "in 10 batches of 4, weighted; 40 validation samples, weighted"),
        (["--train.class_weight", "balanced"], None, "of 4, class weights 0=0.6667 1=2; 40 validation samples"),
        (["--train.class_weight", "1=5", "--data.workers", "0"], None, "of 4, class weights 0=1 1=5; 40 validation"),
    ],
)
def test_plan(words: list[str], weights: Any, text: str, make_trainer: Any) -> None:
    """The plan of a run shows the weights of its samples."""
    from keras import layers

    from aipcore.scenario import Scenario, ScenarioParams
    from aipcore.training.plan import describe_data

    class Weighted(Scenario):
        params_class = ScenarioParams

        def train_data(self) -> Any:
            return np.zeros((COUNT, 1)), (IDS % 4 == 0).astype(int), weights

        val_data = train_data

        def build(self, inputs: Any) -> Any:
            return layers.Dense(2)(inputs)

        def losses(self) -> Any:
            return "sparse_categorical_crossentropy"

    trainer = make_trainer(Weighted, "--train.batch_size", "4", "--trainer.epochs", "1", *words)
    assert text in describe_data(trainer.data, trainer.params)
    if weights is not None:
        trainer.fit()
