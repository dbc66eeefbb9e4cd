"""Classification of tables: kinds of columns, classes, held-out rows, encoding, and a model that answers raw rows."""

from __future__ import annotations

import csv
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from aip_plugins.scenarios.tabular_classification.columns import held_out
from aip_plugins.scenarios.tabular_classification.scenario import INCLUDED, TabularClassification

from aipcore.cli.main import main
from aipcore.errors import AipError
from aipcore.hooks.manager import get_plugin_manager
from aipcore.params import Layer
from aipcore.scenario.loader import loaded_class
from aipcore.training.request import make_request

MIXED = """name,age,pays,zip,member,plan,leaves
x,20,1.5,010,true,"basic, old",yes
y, 30 ,,020,FALSE,family,no
z,40,2.5,010,,family,yes
u,50,NA,020,true,,no
"""
"""Numbers, booleans and categories, each with missing values, and a column of ids."""

ABOUT_MIXED = {"data.target": "leaves", "data.ignore": ["name"], "data.columns": ["zip=category"], "data.val_share": 0}


def scenario_of(**params: Any) -> TabularClassification:
    """Return the scenario with parameters checked and completed as in `aip train`."""
    request = make_request(
        loaded_class(TabularClassification, {}), [Layer.from_mapping("test", params)], get_plugin_manager()
    )
    return TabularClassification(request.checked().value)


def written(folder: Path, content: str, name: str = "table.csv") -> Path:
    """Write a file and return its path."""
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def test_kinds_of_columns(tmp_path: Path) -> None:
    """Kinds, classes and missing values are found, and given kinds are kept."""
    made = scenario_of(**ABOUT_MIXED, **{"data.files": [str(written(tmp_path, MIXED))]})
    data = made.params.data
    assert data.columns == ("age=number", "pays=number", "zip=category", "member=boolean", "plan=category")
    assert data.classes == ("no", "yes")
    inputs, targets = made.train_data()
    assert targets["class"].tolist() == [1, 0, 1, 0]
    np.testing.assert_array_equal(inputs["age"], np.float32([20, 30, 40, 50]))
    np.testing.assert_array_equal(inputs["pays"], np.float32([1.5, np.nan, 2.5, np.nan]))
    assert inputs["zip"].tolist() == ["010", "020", "010", "020"]
    assert inputs["member"].tolist() == ["true", "false", "", "true"]
    assert inputs["plan"].tolist() == ["basic, old", "family", "family", ""]
    assert made.val_data() is None


def test_parquet_is_read_like_csv(tmp_path: Path) -> None:
    """A Parquet file with types gives the inputs of the CSV file; a column of times may be ignored."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {
        "age": [20, 30, 40, 50],
        "pays": pyarrow.array([1.5, None, 2.5, None], pyarrow.float32()),
        "zip": ["010", "020", "010", "020"],
        "member": [True, False, None, True],
        "plan": pyarrow.array(["basic, old", "family", "family", None]).dictionary_encode(),
        "leaves": ["yes", "no", "yes", "no"],
        "name": pyarrow.array([1, 2, 3, 4], pyarrow.timestamp("s")),
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "table.parquet")
    found = [
        scenario_of(**ABOUT_MIXED, **{"data.files": [str(path)]})
        for path in (tmp_path / "table.parquet", written(tmp_path, MIXED))
    ]
    assert found[0].params.data.columns == found[1].params.data.columns
    for one, other in zip(*(each.train_data()[0].items() for each in found), strict=True):
        assert one[0] == other[0]
        np.testing.assert_array_equal(one[1], other[1])


def test_large_integers(tmp_path: Path) -> None:
    """Integers beyond those of float64 are different classes and categories."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    ids = [2**53 + row % 2 for row in range(4)]
    columns = {"id": ids, "same": ids, "number": pyarrow.array([2**64 - 1, 0, 1, 2], pyarrow.uint64())}
    parquet.write_table(pyarrow.table(columns), tmp_path / "table.parquet")
    about = {"data.target": "id", "data.columns": ["same=category"], "data.val_share": 0}
    made = scenario_of(**about, **{"data.files": [str(tmp_path / "table.parquet")]})
    assert made.params.data.classes == ("9007199254740992", "9007199254740993")
    inputs, targets = made.train_data()
    assert targets["class"].tolist() == [0, 1, 0, 1]
    assert inputs["same"].tolist() == [*made.params.data.classes] * 2
    np.testing.assert_array_equal(inputs["number"], np.float32([2**64, 0, 1, 2]))


@pytest.mark.parametrize("what", ["two names", "types", "index"])
def test_mistakes_in_parquet(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Any) -> None:
    """Files whose columns cannot be used are refused in a sentence."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    monkeypatch.chdir(tmp_path)
    names = ["a", "a", "b"] if what == "two names" else ["__index_level_0__" if what == "index" else "c", "a", "b"]
    first = pyarrow.Table.from_arrays([[1, 2], [3, 4], ["x", "y"]], names=names)
    parquet.write_table(first, "one.parquet")
    second = first.set_column(1, "a", pyarrow.array(["3", "4"])) if what == "types" else first
    parquet.write_table(second, "two.parquet")
    with refused(AipError):
        scenario_of(**{"data.files": ["one.parquet", "two.parquet"], "data.target": "b"})


def test_weights_of_other_tables(tmp_path: Path) -> None:
    """The rows of a table that `aip lav` is given have their weights, as those of a validation table have."""
    table = written(tmp_path, "a,b,w\n" + "".join(f"{i},{'xy'[i % 2]},{i}\n" for i in range(1, 9)))
    made = scenario_of(**{"data.files": [str(table)], "data.target": "b", "data.weight": "w"})
    data = attrs.evolve(made.params.data, files=(str(table),))
    weights = TabularClassification(attrs.evolve(made.params, data=data)).val_data()[2]
    np.testing.assert_array_equal(weights, np.arange(1, 9, dtype=np.float32))


ROWS = "".join(f"{i % 2},{i * 1.25},{'ab'[i % 2]}\n" for i in range(30))
"""Rows of two numbers and a category."""

MISTAKES: dict[str, tuple[str, dict[str, Any]]] = {
    "no target": ("a,b,c\n" + ROWS, {}),
    "unknown target": ("a,b,c\n" + ROWS, {"data.target": "C"}),
    "no header": (ROWS, {"data.target": "c"}),
    "separator": ("a;b\n1;2\n", {"data.target": "a"}),
    "continuous": ("a,b,c\n" + ROWS, {"data.target": "b"}),
    "one class": ("a,b\n1,x\n2,x\n", {"data.target": "b"}),
    "ids as classes": ("a,b\n" + "".join(f"{i},id{i}\n" for i in range(30)), {"data.target": "b"}),
    "no class": ("a,b\n1,x\n2,y\n3,\n", {"data.target": "b"}),
    "one value": ("a,b,c,one two\n" + ROWS.replace("\n", ",5\n"), {"data.target": "c"}),
    "ids": ("a,b,c\n" + "".join(f"{i},id{i},{i % 2}\n" for i in range(30)), {"data.target": "c"}),
    "one input": ("a/b,a_b,c\n" + ROWS, {"data.target": "c"}),
    "no name": (",b,c\n" + ROWS, {"data.target": "c"}),
    "no rows": ("a,b\n", {"data.target": "b"}),
    "no columns": ("a,b\n1,x\n2,y\n", {"data.target": "b", "data.ignore": ["a"]}),
    "ignored target": ("a,b\n1,x\n2,y\n", {"data.target": "b", "data.ignore": ["b"]}),
    "unknown ignored": ("a,b,c\n" + ROWS, {"data.target": "c", "data.ignore": ["d"]}),
    "a text as number": ("a,b\nx,x\ny,y\n", {"data.target": "b", "data.columns": ["a=number"]}),
    "infinity": ("a,b\n1e39,x\n2,y\n", {"data.target": "b"}),
    "weight": ("a,b,w\n1,x,1\n2,y,-1\n", {"data.target": "b", "data.weight": "w", "data.val_share": 0}),
    "too few rows": ("a,b\n1,x\n2,y\n", {"data.target": "b"}),
    "a stray text": (
        "a,b\n" + "".join(f"{'None' if i == 25 else i},{'xy'[i % 2]}\n" for i in range(80)),
        {"data.target": "b"},
    ),
    "two kinds": ("a,b,c\n" + ROWS, {"data.target": "c", "data.columns": ["a=number", "a=category"]}),
    "kind of the target": ("a,b,c\n" + ROWS, {"data.target": "c", "data.columns": ["c=category"]}),
    "a class twice": ("a,b,c\n" + ROWS, {"data.target": "c", "data.classes": ["a", "b", "a"]}),
    "one given class": ("a,b\n1,x\n2,x\n", {"data.target": "b", "data.classes": ["x"]}),
    "other kind of file": ("a,b\n1,x\n", {"data.target": "b", "data.files": ["table.txt"]}),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Any) -> None:
    """A table that cannot be used is refused in a sentence, before TensorFlow is used."""
    content, params = MISTAKES[what]
    monkeypatch.chdir(tmp_path)
    for name in ("table.csv", "table.txt"):
        written(tmp_path, content, name)
    with refused(AipError):
        scenario_of(**{"data.files": ["table.csv"], **params})


@pytest.mark.parametrize("content", ["a,b\n1,0\n", "a,b,c\n1,2,z\n", "a,b,c,d\n1,2,a,3\n", "a,b,c\nx,2,a\n"])
def test_other_validation_tables(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Any) -> None:
    """A validation table with other columns, classes or kinds is refused."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "a,b,c\n" + ROWS)
    written(tmp_path, content, "val.csv")
    with refused(AipError):
        scenario_of(**{"data.files": ["table.csv"], "data.target": "c", "val.files": ["val.csv"]})


def test_held_out_rows() -> None:
    """A fifth of each class is held out, the same for one seed, and never all rows of a class."""
    classes = np.array([0] * 50 + [1] * 20 + [2])
    masks = [held_out(classes, 0.2, seed) for seed in (1, 1, 2)]
    assert [int(masks[0][classes == number].sum()) for number in range(3)] == [10, 4, 0]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] != masks[2]).any()
    assert held_out(classes, 0.9, 1)[classes == 2].sum() == 0


def test_encoding() -> None:
    """Numbers are normalized over known values; unknown categories are zeros; missing values have positions.

    A number that is the same in all training rows is not scaled. Booleans may be spelled in several ways.
    """
    import tensorflow as tf
    from aip_plugins.scenarios.tabular_classification.encoding import feature_space

    number = np.float32([1, 2, np.nan, 6])
    columns = {"a_b": number, "complete": np.nan_to_num(number), "kind": np.array(["x", "", "y", "x"])}
    # A feature space sorts its columns by name.
    columns |= {"constant": np.full(4, 0.1, np.float32), "flag": np.array(["true", "false", "true", ""])}
    # Keras allows no "/" in names.
    space = feature_space(["a/b=number", "complete=number", "kind=category", "constant=number", "flag=boolean"])
    space.adapt(tf.data.Dataset.from_tensor_slices(columns).batch(2))
    rows = {"a_b": [2.0, np.nan], "complete": [0.0, np.nan], "kind": ["", "other"]}
    rows |= {"constant": [0.1, 1.1], "flag": ["True", "FALSE"]}
    found = space({name: tf.constant(value) for name, value in rows.items()}).numpy()
    whole, known = columns["complete"], np.float32([1, 2, 6])
    expected = [
        [(2 - known.mean()) / known.std(), 0, -whole.mean() / whole.std(), 0, 0, 0, 0, 0, 1, 1, 0, 0],
        [0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0],
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


EXAMPLE = Path(__file__).parents[2] / "examples" / "classify_rows.py"
WITHOUT_AIP = """
import runpy, sys

sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
assert not {"aipcore", "aip_plugins"} & {name.partition(".")[0] for name in sys.modules}
"""
CLASSES = ["Adelie", "Chinstrap", "Gentoo"]


def test_names_of_inputs_without_aip() -> None:
    """The example gives each column the name of its input, as the exported model does."""
    from aipcore.scenario.model import argument_names

    columns = ["age", "spend per month", "1st", "größe"]
    argument = runpy.run_path(str(EXAMPLE))["argument"]
    assert {column: argument(column) for column in columns} == argument_names(columns)


def test_decimal_commas(tmp_path: Path) -> None:
    """Numbers with commas are not taken for categories."""
    table = written(tmp_path, "size;kind\n" + "".join(f"{number},5;{'ab'[number % 2]}\n" for number in range(60)))
    params = {"data.files": [str(table)], "data.target": "kind", "data.separator": "semicolon"}
    with pytest.raises(AipError, match=r"the numbers of size have decimal commas\. Replace them by points\."):
        scenario_of(**params)


@pytest.mark.slow
def test_trained_exported_and_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table becomes a model that knows new penguins. It answers raw rows without aip."""
    rows = INCLUDED.read_text(encoding="utf-8").splitlines()
    train, new, run = tmp_path / "penguins.csv", tmp_path / "new.csv", tmp_path / "run"
    written(tmp_path, "\n".join(row for number, row in enumerate(rows) if number % 20 or not number), train.name)
    written(tmp_path, "\n".join(rows[::20]), new.name)
    words = ["--data.files", str(train), "--data.target", "species", "--trainer.random_seed", "1"]
    words += ["--trainer.epochs", "8"]
    words += ["--trainer.output_dir", str(run), "--trainer.tune", "off"]
    assert main(["train", "tabular_classification", *words]) == 0
    capsys.readouterr()
    for data in ([], ["--data.files", str(new)]):
        assert main(["lav", str(run), *data]) == 0
        scores = dict(line.split("\t") for line in capsys.readouterr().out.splitlines() if "\t" in line)
        assert float(scores["accuracy"]) >= 0.95
    table = tmp_path / "answers.csv"
    assert (
        main(["predict", str(run / "best"), str(run / "export"), "--data.files", str(new), "--output", str(table)]) == 0
    )
    assert main(["predict", str(run), "--data.files", str(new), "--output", str(table)]) == 0
    answers = list(csv.DictReader(table.read_text().splitlines()))
    expected = [[float(each[f"probability.{name}"]) for name in CLASSES] for each in answers]
    np.testing.assert_allclose(np.sum(expected, axis=1), 1, atol=1e-5)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_AIP, str(EXAMPLE), str(run / "best"), str(new)], capture_output=True, text=True,
        check=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    )  # fmt: skip
    classes = [each["class"] for each in answers]
    assert done.stdout.splitlines() == [f"{name}\t{max(row):.3f}" for name, row in zip(classes, expected, strict=True)]
    assert main(["predict", str(run), "--data.files", str(written(tmp_path, "island\nDream\n"))]) != 0
    assert "does not have the column" in capsys.readouterr().err
