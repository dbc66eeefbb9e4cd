"""Warm start with weights that the scenario adapts: values, the table, refusals, records and resuming."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import attrs
import keras
import numpy as np
import pytest

import aipcore as aip
from aipcore.cli.json_reporter import JsonReporter
from aipcore.errors import AuthorError, ParamsError, ScenarioError, UsageError
from aipcore.params import field, group, params
from aipcore.scenario import DataParams, Scenario, ScenarioParams, adapted_classes
from aipcore.training.artifacts import WEIGHTS, find_artifact, recorded_params
from aipcore.training.reporter import Reporter
from aipcore.training.warmstart.apply import warm_start
from aipcore.training.warmstart.matching import WarmStart
from aipcore.training.warmstart.params import WarmstartParams
from aipcore.training.warmstart.table import warm_start_lines

# Keras' save functions, which create the files of these tests, use an outdated NumPy protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

FEATURES = 5


def network(classes: int, seed: int) -> keras.Model:
    """Return a model with a named body and head, and distinct weights."""
    inputs = keras.Input((FEATURES,))
    hidden = keras.layers.Dense(4, name="body")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(classes, name="head")(hidden))
    generator = np.random.default_rng(seed)
    for variable in model.variables:
        variable.assign(generator.uniform(size=variable.shape))
    return model


def values(model: Any) -> dict[str, Any]:
    """Return copies of the weights by path."""
    return {variable.path: variable.numpy().copy() for variable in model.variables}


@pytest.fixture(scope="module")
def abc(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Save a model of the classes a, b and c, and return its file and weights."""
    model = network(3, seed=1)
    path = tmp_path_factory.mktemp("abc") / "abc.keras"
    model.save(path)
    return path, values(model)


def classes(there: str, here: str) -> Callable[..., Any]:
    """Return a function that adapts the head to classes named by letters."""

    def adapt(path: str, source: Any, fresh: Any, before: Any) -> Any:
        assert before is None
        return adapted_classes(source, fresh, list(there), list(here)) if path.startswith("head/") else None

    return adapt


def load(model: Any, path: Path, adapt: Callable[..., Any] | None, **rules: Any) -> WarmStart:
    """Return a completed warm start."""
    done = warm_start(model, WarmstartParams(model=path, **rules), adapt)
    assert done is not None
    return done


@pytest.mark.parametrize("here", ["abcde", "bxa", "cba", "b", "xyzw"])
def test_known_classes_keep_their_weights(abc: tuple[Path, dict[str, Any]], here: str) -> None:
    """Each known class has the source's column wherever it is now, also if the number of classes is the same."""
    path, theirs = abc
    model = network(len(here), seed=2)
    fresh = values(model)
    done = load(model, path, classes("abc", here))
    found = values(model)
    for name in ("head/kernel", "head/bias"):
        for number, letter in enumerate(here):
            column = theirs[name][..., "abc".index(letter)] if letter in "abc" else fresh[name][..., number]
            np.testing.assert_array_equal(found[name][..., number], column)
    np.testing.assert_array_equal(found["body/kernel"], theirs["body/kernel"])
    row = next(row for row in done.rows if row.path == "head/kernel")
    assert (row.status, row.adapted) == ("adapted", (len(set(here) & set("abc")), len(here)))
    assert done.summary().endswith("4 of 4 variables loaded, 2 of them adapted")


def test_the_same_classes_are_loaded(abc: tuple[Path, dict[str, Any]]) -> None:
    """If the scenario returns the values of the source, the variable counts as loaded."""
    model = network(3, seed=2)
    done = load(model, abc[0], classes("abc", "abc"))
    assert {row.status for row in done.rows} == {"loaded"}
    for name, value in abc[1].items():
        np.testing.assert_array_equal(values(model)[name], value)


def test_table_and_log(abc: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """The table and the JSON log show how many entries do not have initial values, along the axis that differs."""

    def rows(path: str, source: Any, fresh: Any, before: Any) -> Any:
        if path != "body/kernel":
            return None
        fresh[: len(source)] = source[:, :4]
        return fresh

    done = load(network(5, seed=2), abc[0], classes("abc", "abcde"))
    assert warm_start_lines(done.rows)[-2:] == [
        "head/kernel  head/vars/0  4x5, in the file 4x3  adapted, 3 of 5",
        "head/bias    head/vars/1  5, in the file 3      adapted, 3 of 5",
    ]
    assert len(warm_start_lines(done.rows, brief=True)) == 4
    reporter = JsonReporter(tmp_path / "log.jsonl")
    reporter.warm_start(done)
    reporter.close()
    logged = json.loads((tmp_path / "log.jsonl").read_text())["variables"]
    assert [row["adapted"] for row in logged] == [None, None, [3, 5], [3, 5]]
    inputs = keras.Input((FEATURES + 2,))
    wider = keras.Model(inputs, keras.layers.Dense(3, name="head")(keras.layers.Dense(4, name="body")(inputs)))
    done = load(wider, abc[0], rows)
    assert next(row.adapted for row in done.rows if row.path == "body/kernel") == (FEATURES, FEATURES + 2)


def test_none_is_as_without_the_method(abc: tuple[Path, dict[str, Any]]) -> None:
    """None leaves a mismatch, and excluded or missing variables are not asked for."""
    asked = []

    def adapt(path: str, source: Any, fresh: Any, before: Any) -> None:
        asked.append((path, source.shape, fresh.shape))

    with pytest.raises(ParamsError, match=r"Different shapes: head/kernel is \(4, 5\) here and \(4, 3\) in the source"):
        load(network(5, seed=2), abc[0], adapt)
    assert asked == [
        ("body/kernel", (5, 4), (5, 4)),
        ("body/bias", (4,), (4,)),
        ("head/kernel", (4, 3), (4, 5)),
        ("head/bias", (3,), (5,)),
    ]
    asked.clear()
    done = load(network(5, seed=2), abc[0], adapt, exclude="head/.*")
    assert [path for path, *_ in asked] == ["body/kernel", "body/bias"]
    assert [row.status for row in done.rows] == ["loaded", "loaded", "skipped", "skipped"]
    done = load(network(5, seed=2), abc[0], adapt, allow_partial=True)
    assert [row.status for row in done.rows] == ["loaded", "loaded", "shape mismatch", "shape mismatch"]


def test_only_adapted_variables_are_enough(abc: tuple[Path, dict[str, Any]]) -> None:
    """A warm start in which all variables of the source are adapted has matched something."""
    done = load(network(5, seed=2), abc[0], classes("abc", "abcde"), include="head/.*")
    assert done.summary().endswith("2 of 4 variables loaded, 2 of them adapted, 2 skipped")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda source, fresh: source, r"returned shape \(4, 3\), but the variable has \(4, 5\). Return an array"),
        (lambda source, fresh: fresh.astype(int), "returned type int64, but the variable has float32"),
        (lambda source, fresh: fresh.astype(str), "returned type str"),
        (lambda source, fresh: fresh * np.nan, "returned values that are not finite. Return finite values"),
        (lambda source, fresh: fresh.astype(float) + 1e300, "returned values that are not finite"),
        (lambda source, fresh: [[1.0], [2.0, 3.0]], "returned list, which is not an array"),
    ],
)
def test_refused_answers(abc: tuple[Path, dict[str, Any]], answer: Callable[..., Any], sentence: str) -> None:
    """An answer of another shape or type, or with infinite values, is an error that names the call."""

    class Author(Scenario):
        def adapt_weights(self, path: str, source: Any, fresh: Any, before: Any) -> Any:
            changed = answer(source, fresh) if path == "head/kernel" else None
            fresh[...] = 7
            return changed

    model = network(5, seed=2)
    before = values(model)
    with pytest.raises(ScenarioError, match=r"Author.adapt_weights\('head/kernel', ...\) " + sentence):
        load(model, abc[0], Author(None).adapt_weights)
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_diverged_source(tmp_path: Path) -> None:
    """If the source has the values that are not finite, the error says it; the source cannot be changed."""
    model = network(3, seed=1)
    model.get_layer("head").bias.assign([0.0, np.inf, 0.0])
    model.save(tmp_path / "m.keras")
    with pytest.raises(ScenarioError, match=r"not finite. The source has such values too. Return finite values"):
        load(network(5, seed=2), tmp_path / "m.keras", classes("abc", "abcde"))

    def changes(path: str, source: Any, fresh: Any, before: Any) -> None:
        source[...] = 0

    with pytest.raises(ValueError, match="read-only"):
        load(network(3, seed=2), tmp_path / "m.keras", changes)


@pytest.mark.parametrize("there", [None, "abc", ["a", "b"], [["a"], {}, "a"], 3])
def test_untrusted_classes(there: Any) -> None:
    """A record that does not name each class of the source adapts nothing."""
    source, fresh = np.ones((2, 3)), np.zeros((2, 4))
    adapted = adapted_classes(source, fresh, there, list("abcd"))
    if there == [["a"], {}, "a"]:
        np.testing.assert_array_equal(adapted, [[1, 0, 0, 0]] * 2)
    else:
        assert adapted is None
    assert adapted_classes(source, np.zeros((3, 4)), list("abc"), list("abcd")) is None
    assert adapted_classes(source, fresh, list("abc"), list("abcde")) is None
    assert not fresh.any()


@params
class LetterData(DataParams):
    """The letters."""

    letters: tuple[str, ...] = field(("a", "b", "c"), help="Classes.")


@params
class LetterParams(ScenarioParams):
    """Parameters of the letters."""

    data: LetterData = group(LetterData, help="The letters.")


class Letters(Scenario):
    """Classifies points by letter, and remembers the questions of warm starts."""

    params_class = LetterParams
    defaults: ClassVar[dict[str, Any]] = {
        "train.batch_size": 8,
        "trainer.jit_compile": "off",
        "trainer.tune": "off",
        "trainer.random_seed": 3,
        "trainer.export_best": False,
        "trainer.export_final": False,
    }
    asked: ClassVar[list[str]] = []

    def train_data(self) -> Any:
        generator = np.random.default_rng(0)
        points = generator.normal(size=(32, FEATURES)).astype(np.float32)
        return points, generator.integers(0, len(self.params.data.letters), 32)

    def build(self, inputs: Any) -> Any:
        hidden = keras.layers.Dense(4, name="body")(inputs)
        return keras.layers.Dense(len(self.params.data.letters), name="head")(keras.layers.Dropout(0.2)(hidden))

    def losses(self) -> Any:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def adapt_params(self, before: Any) -> Any:
        self.asked.append("params")
        known = tuple(before["data.letters"])
        letters = (*known, *(each for each in self.params.data.letters if each not in known))
        return attrs.evolve(self.params, data=attrs.evolve(self.params.data, letters=letters))

    def adapt_weights(self, path: str, source: Any, fresh: Any, before: Any) -> Any:
        self.asked.append(path)
        if not path.startswith("head/"):
            return None
        return adapted_classes(source, fresh, before.get("data.letters"), self.params.data.letters)


class Table(Reporter):
    """A listener that keeps the table."""

    done: WarmStart | None = None

    def warm_start(self, done: WarmStart) -> None:
        """Keep the table."""
        self.done = done


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train three letters, and return the run folder."""
    folder = tmp_path_factory.mktemp("letters") / "source"
    exports = {"trainer.export_best": True, "trainer.export_final": True}
    aip.train(Letters, {"trainer.epochs": 1, **exports}, folder, quiet=True)
    return folder


def test_records_and_resuming(source: Path, tmp_path: Path) -> None:
    """The source's record reaches both methods, the result is recorded, and a resumed run asks neither method.

    The run that is interrupted after an epoch and resumed, without its source, equals the uninterrupted one bit by bit.
    """
    first = tmp_path / "source"
    shutil.copytree(source, first)
    start = {"warmstart.model": first, "data.letters": ["d", "b"]}
    table = Table()
    Letters.asked.clear()
    whole = aip.train(Letters, {**start, "trainer.epochs": 3}, tmp_path / "whole", reporter=table)
    assert Letters.asked == ["params", "body/kernel", "body/bias", "head/kernel", "head/bias"]
    assert table.done is not None
    assert [row.adapted for row in table.done.rows if row.path.startswith("head/")] == [(3, 4), (3, 4)]
    recorded = json.loads((tmp_path / "whole" / "params.json").read_text())
    assert recorded["data"]["letters"] == ["a", "b", "c", "d"]
    aip.train(Letters, {**start, "trainer.epochs": 1}, tmp_path / "part", quiet=True)
    shutil.rmtree(first)
    Letters.asked.clear()
    table = Table()
    resumed = aip.resume(tmp_path / "part", {"trainer.epochs": 3}, scenario=Letters, reporter=table)
    assert (Letters.asked, table.done) == ([], None)
    for one, other in zip(whole.model.variables, resumed.model.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)


@pytest.mark.slow
def test_folds(source: Path, tmp_path: Path) -> None:
    """Each fold starts from the source; a fold that is trained after a resume has the same parameters."""
    folder = tmp_path / "folds"
    start = {"warmstart.model": source, "data.letters": ["d"], "trainer.folds": 2, "trainer.epochs": 1}
    aip.train(Letters, start, folder, quiet=True)
    shutil.rmtree(folder / "fold-2")
    Letters.asked.clear()
    aip.resume(folder, scenario=Letters, quiet=True)
    assert Letters.asked == ["body/kernel", "body/bias", "head/kernel", "head/bias"]
    for fold in (1, 2):
        recorded = json.loads((folder / f"fold-{fold}" / "params.json").read_text())
        assert recorded["data"]["letters"] == ["a", "b", "c", "d"]


def test_recorded_params(source: Path, tmp_path: Path) -> None:
    """Models and checkpoints have a record; a damaged one is an error, and other files have none."""
    for place in (source, source / "best", source / "export", source / "checkpoint"):
        recorded = recorded_params(find_artifact(place, WEIGHTS))
        assert recorded is not None
        assert (recorded["data.letters"], recorded["trainer.epochs"]) == (["a", "b", "c"], 1)
    network(3, seed=1).save(tmp_path / "m.keras")
    assert recorded_params(find_artifact(tmp_path / "m.keras", WEIGHTS)) is None
    (tmp_path / "model").mkdir()
    for damaged in (3, [], None):
        (tmp_path / "model" / "aip.json").write_text(json.dumps({"params": damaged, "scenario": {}}))
        with pytest.raises(UsageError, match="is not a record of aip, or it is damaged"):
            recorded_params(find_artifact(tmp_path / "model", WEIGHTS))


def test_an_error_of_the_author_is_located(source: Path, tmp_path: Path) -> None:
    """An exception in `adapt_params` names the line of the author, before anything is written."""
    network(3, seed=1).save(tmp_path / "m.keras")
    with pytest.raises(AuthorError, match=r"test_adapted_weights.py, line \d+, in adapt_params: TypeError"):
        aip.train(Letters, {"warmstart.model": tmp_path / "m.keras"}, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
