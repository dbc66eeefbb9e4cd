"""Preprocessing with a state from the training data: adapted once, exported with the model, restored with the run."""

from __future__ import annotations

import csv
import json
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import forks
import keras
import numpy as np
import pytest
import tensorflow as tf

import aipcore as aip
from aipcore.cli.main import main
from aipcore.data.params import TrainDataParams
from aipcore.data.pipeline import Pipeline
from aipcore.errors import DataError, FormatError, ScenarioError, TrainingError, UsageError
from aipcore.prediction import Predictor
from aipcore.prediction.lav import Jury, run_lav
from aipcore.prediction.locate import find_model
from aipcore.prediction.out_of_fold import score_out_of_fold
from aipcore.prediction.predictor import load_voter
from aipcore.prediction.saved_predictions import read_stored
from aipcore.prediction.writers import write_predictions
from aipcore.scenario import Scenario, ScenarioParams, Stream
from aipcore.scenario.adaptation import adapted_preprocessing
from aipcore.scenario.preprocessing import digest_of
from aipcore.training.checkpoint.format import newest_checkpoint, read_checkpoint
from aipcore.training.preprocessing import load_preprocessing, shared_preprocessing

TEXTS = ["good film", "bad film", "very good", "very bad, bad", "Gut, sehr gut", ""] * 8
LABELS = np.array([1, 0, 1, 0, 1, 0] * 8, "float32")[:, None]
RAW = ["very good", "bad", "unknown words"]
WORDS = ("--optimizer", "SGD", "--learning_rate", "Constant", "--learning_rate.lr", "0.1", "--train.shuffle", "false")


def vectorizer(**options: Any) -> Any:
    """Return a layer that is not adapted."""
    return keras.layers.TextVectorization(**options)


def network(inputs: Any) -> Any:
    """Return the output of a small text classifier."""
    initializer = keras.initializers.RandomUniform(seed=1)
    hidden = keras.layers.Embedding(16, 4, embeddings_initializer=initializer)(inputs)
    hidden = keras.layers.GlobalAveragePooling1D()(hidden)
    return keras.layers.Dense(1, activation="sigmoid", kernel_initializer=initializer)(hidden)


class Texts(Scenario):
    """Text classification."""

    def train_data(self) -> Any:
        return TEXTS, LABELS

    def val_data(self) -> Any:
        return TEXTS[:20], LABELS[:20]

    def preprocessing(self) -> Any:
        return vectorizer(output_sequence_length=4)

    def build(self, inputs: Any) -> Any:
        return network(inputs)

    def losses(self) -> Any:
        return "binary_crossentropy"


class Padded(Texts):
    """The same, read as a stream, with batches as long as their longest text."""

    def train_data(self) -> Any:
        return Stream(lambda: zip(TEXTS, LABELS, strict=True), length=len(TEXTS))

    def preprocessing(self) -> Any:
        return vectorizer()


@pytest.mark.slow
@pytest.mark.parametrize("cls", [Texts, Padded])
def test_losses_are_those_of_keras(make_trainer: Any, cls: Any) -> None:
    """Two epochs give the losses of `Model.fit` on the output of the layer, adapted to the same texts."""
    trainer = make_trainer(cls, *WORDS, exports=False)
    losses = [epoch["loss"] for epoch in trainer.fit().history]
    layer = cls({}).preprocessing()
    layer.adapt(TEXTS)
    inputs = keras.Input((4 if cls is Texts else None,), dtype="int64")
    model = keras.Model(inputs, network(inputs))
    model.compile(keras.optimizers.SGD(0.1), loss="binary_crossentropy")
    batches = tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(16).map(lambda x, y: (layer(x), y))
    expected = model.fit(batches, epochs=2, shuffle=False, verbose=0).history["loss"]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


@pytest.mark.slow
def test_exports_answer_raw_strings(make_trainer: Any, tmp_path: Path) -> None:
    """All saved models answer raw strings."""
    first = make_trainer(Texts, *WORDS, "--trainer.export_best", "false", output="run").fit()
    folder = tmp_path / "run"
    layer = vectorizer(output_sequence_length=4)
    layer.adapt(TEXTS)
    expected = first.model.predict(layer(tf.constant(RAW)), verbose=0)
    served = tf.saved_model.load(str(folder / "export")).signatures["serving_default"](inputs=tf.constant(RAW))
    np.testing.assert_allclose(served["outputs"], expected, rtol=1e-6)
    for part in ("export", "checkpoint"):
        np.testing.assert_allclose(Predictor.load(folder / part, trust=True).predict_raw(RAW), expected, rtol=1e-6)


def returning(given: Any, *, of: Any = Texts, **more: Any) -> Any:
    """Return a scenario class whose `preprocessing` returns a value; further methods return theirs."""
    methods = {name: lambda _, value=value: value for name, value in {"preprocessing": given, **more}.items()}
    return type("Mine", (of,), methods)


PARAMS = {
    "trainer.epochs": 2, "trainer.random_seed": 7, "trainer.jit_compile": "off", "trainer.tune": "off",
    "trainer.export_best": False, "checkpoint.every_steps": 1, "checkpoint.keep": 9,
}  # fmt: skip


def variables(run: Path) -> dict[str, bytes]:
    """Return the variables of the newest checkpoint, as bytes."""
    stored = read_checkpoint(newest_checkpoint(run / "checkpoint"))
    return {name: array.tobytes() for name, array in stored.arrays.items()}


class Numbers(Texts):
    """Numbers that are normalized ahead of the model and again in it."""

    def train_data(self) -> Any:
        return np.random.default_rng(0).normal(3, 2, (48, 5)).astype("float32"), LABELS

    def val_data(self) -> Any:
        return None

    def preprocessing(self) -> Any:
        return keras.Sequential([keras.layers.Rescaling(2.0), keras.layers.Normalization()])

    def build(self, inputs: Any) -> Any:
        hidden = keras.layers.Normalization()(inputs)
        return keras.layers.Dense(1, activation="sigmoid")(keras.layers.Dropout(0.3)(hidden))


class Waiting(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that waits after each chunk for pending saves."""

    accepts_chunks = True

    def __init__(self, trainer: Any) -> None:
        super().__init__()
        self.trainer = trainer

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.trainer._run_writer.drain()


@pytest.fixture(scope="module", params=[pytest.param(Padded, marks=pytest.mark.slow), Numbers])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """Return a scenario and a finished run of it with checkpoints within its epochs."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    trainer = aip.Trainer.from_scenario(request.param, PARAMS, folder, quiet=True)
    trainer.callbacks["wait"] = Waiting(trainer)
    trainer.fit()
    return request.param, folder


def not_again(_: Any) -> Any:
    """Fail, in place of `preprocessing`."""
    return pytest.fail("adapted again")


def test_resumed_within_an_epoch(whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run resumed from a checkpoint within an epoch is bit-identical, and adapts nothing."""
    cls, folder = whole
    part = tmp_path / "part"
    shutil.copytree(folder, part)
    monkeypatch.setattr(cls, "preprocessing", not_again)
    aip.resume(part / "checkpoint" / "step-0000000004", scenario=cls, trust=True, quiet=True)
    assert variables(part) == variables(folder)
    assert digest_of(part / "preprocessing") == digest_of(part / "export" / "preprocessing")


def missing(folder: Path) -> None:
    """Remove the preprocessing."""
    shutil.rmtree(folder / "preprocessing")


def cut(folder: Path) -> None:
    """Cut the end of the graph off."""
    file = folder / "preprocessing" / "saved_model.pb"
    file.write_bytes(file.read_bytes()[:-10])


def another(folder: Path) -> None:
    """Replace the preprocessing by one that was adapted to other texts."""
    shutil.rmtree(folder / "preprocessing")
    layer = vectorizer()
    layer.adapt(["other words"])
    tf.saved_model.save(layer, str(folder / "preprocessing"))
    (folder / "preprocessing" / "specs.json").write_text("{}")


@pytest.mark.parametrize("damage", [missing, cut, another])
@pytest.mark.parametrize("whole", [Numbers], indirect=True)
def test_damaged_preprocessing_is_refused(whole: Any, tmp_path: Path, damage: Any, refused: Any) -> None:
    """Neither a run nor a model with other preprocessing than its own is used, and nothing is adapted silently."""
    cls, folder = whole
    for name, use in {
        "run": lambda path: aip.resume(path, {"trainer.epochs": 3}, scenario=cls, quiet=True),
        "checkpoint": lambda path: Predictor.load(path / "checkpoint", scenario=cls),
    }.items():
        shutil.copytree(folder, tmp_path / name)
        damage(tmp_path / name)
        before = variables(tmp_path / name)
        with refused(UsageError):
            use(tmp_path / name)
        assert variables(tmp_path / name) == before


@pytest.mark.parametrize("specs", ["{}", "[" * 100_000, '{"inputs": 3, "outputs": {}, "needs": {}, "about": ""}'])
@pytest.mark.parametrize("whole", [Numbers], indirect=True)
def test_hostile_specs(whole: Any, tmp_path: Path, specs: str) -> None:
    """A folder that matches its digest may still be wrong, which is one error."""
    shutil.copytree(whole[1] / "preprocessing", tmp_path / "preprocessing")
    (tmp_path / "preprocessing" / "specs.json").write_text(specs)
    with pytest.raises(UsageError, match="cannot be used"):
        load_preprocessing(tmp_path, {"preprocessing": digest_of(tmp_path / "preprocessing")})


def test_other_inputs_in_validation(make_trainer: Any, refused: Any) -> None:
    """Validation data with other inputs than the training data is named."""

    class Other(Numbers):
        def val_data(self) -> Any:
            return np.zeros((4, 3), "float32"), LABELS[:4]

    with refused(DataError):
        make_trainer(Other, *WORDS)


@pytest.mark.parametrize("whole", [Numbers], indirect=True)
def test_preprocessing_that_is_added_or_removed(make_trainer: Any, whole: Any, refused: Any) -> None:
    """A checkpoint continues only with the preprocessing that it was made with."""
    stored = read_checkpoint(newest_checkpoint(whole[1] / "checkpoint"))
    plain = returning(None, of=Numbers)
    for cls, checkpoint in ((Numbers, attrs.evolve(stored, about={})), (plain, stored), (Numbers, stored)):
        with refused(TrainingError):
            make_trainer(cls, *WORDS, exports=False).restore(checkpoint)


class Weighted(Texts):
    """A scenario whose loss depends on the inputs of its model."""

    def loss_values(self, inputs: Any, targets: Any, outputs: Any) -> Any:
        words = keras.ops.cast(inputs[""], "float32")
        return {"error": keras.ops.mean(words, axis=-1) * keras.ops.abs(targets[""] - outputs[""])[:, 0]}


def test_loss_values_receive_the_inputs_of_build(make_trainer: Any, tmp_path: Path) -> None:
    """`loss_values` has the same value in validation and in `aip lav`, of a SavedModel and of a checkpoint."""
    words = (*WORDS, "--trainer.epochs", "1", "--trainer.export_best", "false")
    last = make_trainer(Weighted, *words, output="run").fit().history[-1]
    scenario, voters = Weighted(ScenarioParams()), []
    for part in ("export", "checkpoint"):
        model = find_model(tmp_path / "run" / part)
        (found,), _ = run_lav(model, scenario)
        assert found.values["loss"] == pytest.approx(last["val_loss"], rel=1e-5)
        voters.append(load_voter(model, scenario))
    (voted,), _ = Jury(voters).score()
    assert voted.values["loss"] == pytest.approx(last["val_loss"], rel=1e-5)


@pytest.mark.slow
def test_loss_values_out_of_fold(tmp_path: Path) -> None:
    """`loss_values` of a fold receives the inputs of its own preprocessing, out of fold as in training."""
    params = {"trainer": {"epochs": 1, "folds": 2, "tune": "off", "skip_sanity_check": True, "export_best": False}}
    trained = aip.train(Weighted, params, tmp_path / "run", quiet=True)
    models = [find_model(tmp_path / "run" / f"fold-{fold}" / "export") for fold in (1, 2)]
    (score,), _ = score_out_of_fold([load_voter(model, Weighted(ScenarioParams())) for model in models])
    in_training = [each.history[-1]["val_loss"] for each in trained.folds]
    assert [each["loss"] for each in score.models.values()] == pytest.approx(in_training, rel=1e-5)
    assert score.values["loss"] == pytest.approx(np.mean(in_training), rel=1e-5)


@pytest.mark.slow
def test_feature_space(make_trainer: Any, tmp_path: Any) -> None:
    """A table of mixed types is encoded as by its own `FeatureSpace`, in training and in the exported model."""
    random = np.random.default_rng(0)
    table = {"age": random.integers(18, 90, 60), "job": random.choice(["a", "b", "c"], 60)}
    targets = (table["age"] > 40).astype("float32")[:, None]

    def features() -> Any:
        space = keras.utils.FeatureSpace
        return space({"age": space.float_normalized(), "job": space.string_categorical()}, output_mode="concat")

    class Table(Texts):
        def train_data(self) -> Any:
            return table, targets

        val_data = train_data

        def preprocessing(self) -> Any:
            return features()

        def build(self, inputs: Any) -> Any:
            return keras.layers.Dense(1, activation="sigmoid")(inputs)

    trainer = make_trainer(Table, *WORDS, output="run")
    space = features()
    space.adapt(tf.data.Dataset.from_tensor_slices(table))
    expected = space({name: tf.constant(column) for name, column in table.items()})
    np.testing.assert_allclose(trainer.data.train.known().inputs.columns[""], expected, rtol=1e-6)
    model = trainer.fit().model
    loaded = tf.saved_model.load(str(tmp_path / "run" / "export"))
    found = loaded.signatures["serving_default"](**{name: tf.constant(column) for name, column in table.items()})
    np.testing.assert_allclose(found["outputs"], model.predict(expected, verbose=0), rtol=1e-5)


def outputs_of(given: Any, data: Any, rows: Any, *, samples: int | None = None) -> Any:
    """Return the outputs for some rows of preprocessing that is adapted to the inputs of data."""
    scenario = returning(given)(ScenarioParams(train=TrainDataParams(adapt_samples=samples)))
    made = adapted_preprocessing(scenario, Pipeline(data, workers=0).dataset())
    assert made is not None
    found = made.on_host(rows if isinstance(rows, dict) else {"": rows})
    return (found[""] if set(found) == {""} else found), made.about


def functional() -> Any:
    """Return a functional model with two layers that are adapted one after the other."""
    inputs = keras.Input((), dtype="string")
    counts = keras.layers.StringLookup(output_mode="int")(inputs)
    hidden = keras.ops.expand_dims(keras.ops.cast(counts, "float32"), -1)
    return keras.Model(inputs, keras.layers.Normalization()(hidden))


def test_kinds_of_preprocessing() -> None:
    """Models are adapted layer by layer, mappings by input; layers with a given state are not adapted."""
    words = ["b", "a", "a", "c"] * 2
    rows = np.array(["a", "b", "x"], object)
    indices = np.array([1, 3, 0])
    given = keras.layers.StringLookup(vocabulary=["b", "a"])
    np.testing.assert_array_equal(outputs_of(given, (words, None), rows)[0], [2, 1, 0])
    lookup = keras.layers.StringLookup()
    np.testing.assert_array_equal(outputs_of(lookup, (words, None), rows)[0], indices)
    known = np.array([3, 1, 1, 2] * 2, "float64")
    expected = ((np.array([1, 3, 0]) - known.mean()) / known.std())[:, None]
    np.testing.assert_allclose(outputs_of(functional(), (words, None), rows)[0], expected, rtol=1e-5)
    layers = [keras.layers.StringLookup(), keras.layers.CategoryEncoding(num_tokens=4, output_mode="one_hot")]
    found, _ = outputs_of(keras.Sequential(layers), (words, None), rows)
    np.testing.assert_array_equal(found, np.eye(4)[indices])
    ages = np.arange(8.0, dtype="float32")
    named = {"word": words, "age": ages}
    mapping = {"age": keras.layers.Normalization(axis=None)}
    found, about = outputs_of(mapping, (named, None), {"word": rows, "age": ages[:3]})
    assert found["word"].tolist() == [b"a", b"b", b"x"]
    np.testing.assert_allclose(found["age"], (ages[:3] - 3.5) / ages.std(), rtol=1e-5)
    assert about == "Normalization of age, adapted to 8 training samples"


def test_how_many_samples_of_a_stream() -> None:
    """A stream is read up to a limit, each sample once, also in batches of its own; its end is respected."""
    numbers = np.arange(2500.0, dtype="float32")[:, None]
    batches = tf.data.Dataset.from_tensor_slices(numbers).batch(64)
    for data in (batches, Stream(lambda: ((each, 0.0) for each in numbers)), (numbers, None)):
        for samples, count in ((None, 2500), (1600, 1600), (9000, 2500)):
            layer = keras.layers.Normalization()
            _, about = outputs_of(layer, data, numbers[:1], samples=samples)
            assert f"{count:,} training samples" in about
            mean = numbers[:count].mean()
            # The batches of a source are not divided.
            np.testing.assert_allclose(layer.mean, mean, rtol=1e-5)
    endless = Stream(lambda: ((each, 0.0) for _ in iter(int, 1) for each in numbers))
    _, about = outputs_of(keras.layers.Normalization(), endless, numbers[:1], samples=100)
    assert about == "Normalization, adapted to the first 100 training samples (train.adapt_samples)"


def test_adapting_does_not_move_a_stream(make_trainer: Any) -> None:
    """The first batches of a shuffled stream are those of the same run without preprocessing."""

    class Shuffled(Numbers):
        def train_data(self) -> Any:
            return tf.data.Dataset.from_tensor_slices(super().train_data()).shuffle(48).batch(16)

        def preprocessing(self) -> Any:
            return keras.layers.Normalization()

    class Plain(Shuffled):
        def preprocessing(self) -> Any:
            return None

    read = []
    for cls in (Shuffled, Plain):
        tf.random.set_seed(1)
        blocks = make_trainer(cls, *WORDS, exports=False).data.loader.blocks(0, chunk=1)
        read.append(np.concatenate([block.targets[""] for block in blocks]))
    np.testing.assert_array_equal(read[0], read[1])


class Group:
    """Two processes in one, the chief and then the other."""

    count = 2

    def __init__(self) -> None:
        self.is_chief = True
        self.sent: Any = None

    def broadcast_arrays(self, about: str, arrays: Any) -> Any:
        """Keep the arrays of the chief, and return them to the other."""
        self.sent = arrays if self.is_chief else self.sent
        return self.sent


def test_the_chief_adapts_for_all() -> None:
    """Another process has the vocabulary of the chief, and adapts nothing."""
    group: Any = Group()
    dataset = Pipeline((TEXTS, None), workers=0).dataset()
    rows = {"": np.array(RAW, object)}
    first = shared_preprocessing(Texts(ScenarioParams()), dataset, group)
    group.is_chief = False
    second = shared_preprocessing(returning(None)(ScenarioParams()), dataset, group)
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(second.on_host(rows)[""], first.on_host(rows)[""])
    group.is_chief = True
    assert shared_preprocessing(returning(None)(ScenarioParams()), dataset, group) is None
    group.is_chief = False
    assert shared_preprocessing(Texts(ScenarioParams()), dataset, group) is None


def test_precision(make_trainer: Any) -> None:
    """Preprocessing computes in float32 under any precision of the model."""
    trainer = make_trainer(Numbers, *WORDS, "--trainer.precision", "float16", exports=False)
    found = trainer.data.train.known().inputs.columns[""]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.std(axis=0), np.ones(5), rtol=1e-4)


@pytest.mark.parametrize("name", ["Keras", "ONNX", pytest.param("LiteRT", marks=pytest.mark.slow)])
def test_formats_without_strings(make_trainer: Any, name: str, refused: Any) -> None:
    """Formats that cannot express the preprocessing are refused before training."""
    with refused(FormatError):
        make_trainer(Texts, *WORDS, "--export.formats", name, output="run")


@pytest.mark.parametrize(
    ("given", "more"),
    [
        ([keras.layers.TextVectorization()], {}),
        ({"text": keras.layers.TextVectorization()}, {}),
        ({"txt": keras.layers.TextVectorization()}, {"train_data": ({"text": TEXTS}, LABELS)}),
        (keras.layers.Normalization(), {}),
    ],
)
def test_wrong_preprocessing_is_named(make_trainer: Any, refused: Any, given: Any, more: Any) -> None:
    """A value that is not a layer, an unknown input and a layer for other data are refused in a sentence."""
    with refused(ScenarioError):
        make_trainer(returning(given, **more), *WORDS)


def test_string_targets_are_refused_before_adapting(make_trainer: Any, refused: Any) -> None:
    """Targets of strings are refused before anything is computed, alone or beside others."""
    names = ["good", "bad"] * 24

    class Named(Texts):
        preprocessing = not_again

        def train_data(self) -> Any:
            return TEXTS, names

    with refused(DataError):
        make_trainer(Named)

    class Beside(Texts):
        def train_data(self) -> Any:
            return TEXTS, {"label": names, "score": LABELS}

        def val_data(self) -> Any:
            return None

        def build(self, inputs: Any) -> Any:
            return {"label": network(inputs)}

    with refused(DataError):
        make_trainer(Beside)


class Hinted(Texts):
    """Texts with a hint that exists in training only. The applied model answers the name of the class."""

    def train_data(self) -> Any:
        return {"text": TEXTS, "hint": ["x", "y"] * 24}, {"answer": LABELS, "aux": LABELS}

    val_data = train_data

    def predict_data(self) -> Any:
        return {"text": RAW}, None

    def preprocessing(self) -> Any:
        return {"text": vectorizer(output_sequence_length=4), "hint": keras.layers.StringLookup(output_mode="one_hot")}

    def build(self, inputs: Any) -> Any:
        answer = network(inputs["text"])
        return {"answer": answer, "aux": keras.layers.Dense(1, activation="sigmoid")(inputs["hint"])}

    def build_prediction(self, model: Any) -> Any:
        good = keras.ops.cast(model.output["answer"] > 0.5, "int64")
        names = keras.layers.StringLookup(vocabulary=["bad", "good"], num_oov_indices=0, invert=True)
        return keras.Model({"text": model.input["text"]}, {"name": names(good), "answer": model.output["answer"]})

    def losses(self) -> Any:
        return {"answer": "binary_crossentropy", "aux": "binary_crossentropy"}


@pytest.mark.slow
def test_answers_of_strings(make_trainer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The applied model needs only its own raw inputs, and every file of predictions holds the answered strings."""
    run = tmp_path / "run"
    make_trainer(Hinted, *WORDS, "--trainer.epochs", "1", "--trainer.export_best", "false", output="run").fit()
    served = tf.saved_model.load(str(run / "export")).signatures["serving_default"]
    assert set(served.structured_input_signature[1]) == {"text"}
    answer = served(text=tf.constant(RAW))
    expected = ["good" if score > 0.5 else "bad" for score in answer["answer"].numpy()[:, 0]]
    assert answer["name"].numpy()[:, 0].tolist() == [name.encode() for name in expected]
    predictions = list(Predictor.load(run / "export", trust=True).predict_data())
    for suffix in ("csv", "jsonl", "npz", "parquet"):
        file = tmp_path / f"found.{suffix}"
        write_predictions(file, predictions, {})
        if suffix == "csv":
            found = [row["name"] for row in csv.DictReader(file.read_text().splitlines())]
        elif suffix == "jsonl":
            found = [json.loads(line)["outputs"]["name"][0] for line in file.read_text().splitlines()]
        else:
            found = [str(each[0]) for each in read_stored(file).group("predictions")["name"]]
        assert found == expected, suffix
    assert main(["lav", str(run / "checkpoint"), "--trust", "--dump", str(tmp_path / "dump.npz")]) == 0
    capsys.readouterr()


SCRIPT = Path(__file__).parent / "killed_preprocessing.py"


def process(kind: str, folder: Path, what: object) -> subprocess.CompletedProcess[str]:
    """Run `killed_preprocessing.py`."""
    return forks.run([sys.executable, str(SCRIPT), kind, str(folder), str(what)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kept", "streamed", "shuffled"])
def test_kill_and_resume(kind: str, tmp_path: Path) -> None:
    """A run killed within an epoch, at a batch drawn at random, has the weights and the history of a whole one."""
    found = {}
    for name, what in (("whole", "whole"), ("killed", random.randrange(3, 27)), ("killed", "resumed")):
        done = process(kind, tmp_path / name, what)
        if isinstance(what, int):
            assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
            continue
        assert done.returncode == 0, done.stdout + done.stderr
        found[what] = json.loads(done.stdout.splitlines()[-1])
    assert found["whole"].pop("resumed") is None
    (entry,) = found["resumed"].pop("resumed")
    assert int(entry["checkpoint"][-10:]) % 10
    assert found["resumed"] == found["whole"]


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    """Two processes train as one does, with the vocabulary of the chief, and resume."""
    # Each replica has its own dropout.
    source = SCRIPT.read_text().partition("class Streamed")[0].replace("keras.layers.Dropout(0.2)(hidden)", "hidden")
    (tmp_path / "reviews.py").write_text(source)
    aip_words = [sys.executable, "-c", "import sys; from aipcore.cli.main import main; sys.exit(main())"]
    # Other optimizers see the gradient of an embedding differently on one device.
    params = {**PARAMS, "optimizer": "SGD", "learning_rate.lr": 0.5}
    options = [word for name, value in params.items() for word in (f"--{name}", str(value))]
    histories = []
    for launch, name in (([], "one"), (["launch", "--workers", "2"], "two")):
        words = [*aip_words, *launch, "train", "reviews.py", *options, "--trainer.output_dir", name, "--quiet"]
        done = forks.run(words, cwd=tmp_path, children=bool(launch))
        assert done.returncode == 0, done.stdout + done.stderr
        stored = read_checkpoint(newest_checkpoint(tmp_path / name / "checkpoint"))
        histories.append([epoch["loss"] for epoch in stored.progress["history"]])
    np.testing.assert_allclose(histories[1], histories[0], rtol=1e-5)
    served = tf.saved_model.load(str(tmp_path / "two" / "export")).signatures["serving_default"]
    assert served(inputs=tf.constant(["word1 word2"]))["outputs"].shape == (1, 1)
    words = [*aip_words, "launch", "--workers", "2", "resume", "two", "--trust", "--trainer.epochs", "3", "--quiet"]
    done = forks.run(words, cwd=tmp_path, children=True)
    assert done.returncode == 0, done.stdout + done.stderr
