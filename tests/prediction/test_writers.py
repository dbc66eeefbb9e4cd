"""Formats of `aip predict --output FILE`: built-in, of a plugin, of a scenario."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aipcore import __version__
from aipcore.cli.main import main
from aipcore.errors import PluginError, UsageError
from aipcore.hooks.discovery import Switches
from aipcore.hooks.manager import PluginManager
from aipcore.prediction import Prediction
from aipcore.prediction.writers import find_writer, write_predictions

PLUGIN = """
from aipcore.plugin import WriterRecord, hookimpl


@hookimpl
def aip_writers():
    return [
        WriterRecord(name=name, summary="Pages.", suffix=suffix, build=f"{name}:write", packages=packages)
        for name, suffix, packages in RECORDS
    ]


def write(path, predictions, about):
    path.mkdir()
    for each in predictions:
        (path / f"{each.index}.xml").write_text(f"<page>{each.outputs['text']}</page>")
"""


def texts(count: int) -> Iterator[Prediction]:
    """Yield predictions of one text."""
    for index in range(count):
        yield Prediction(index=index, outputs={"text": f"line {index}"}, raw={})


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that installs plugins, each given by name and records, and returns the plugin manager."""
    site = tmp_path / "site"

    def install(**modules: Any) -> PluginManager:
        for name, records in modules.items():
            info = site / f"{name}-1.0.dist-info"
            info.mkdir(parents=True)
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            (info / "entry_points.txt").write_text(f"[aip]\n{name} = {name}\n")
            (site / f"{name}.py").write_text(f"RECORDS = {records!r}\n{PLUGIN}")
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.syspath_prepend(str(site))
        return PluginManager(Switches(only=tuple(modules)))

    return install


def table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_rows_of_csv(tmp_path: Path) -> None:
    """Numbers and text are plain, arrays JSON, a mapping in meta has columns of its own; nothing else is a number."""
    path = tmp_path / "found.csv"
    predictions = [
        Prediction(
            index=index,
            outputs={"": np.array([value], np.float32), "text": 'a, "b"\nü', "scores": np.arange(2), "sure": True},
            raw={},
            meta={"path": Path("x") / str(index)},
        )
        for index, value in enumerate([0.5, float("nan")])
    ]
    assert write_predictions(path, predictions, {}) == 2
    text = {"text": 'a, "b"\nü', "scores": "[0, 1]", "sure": "true"}
    assert table(path) == [
        {"index": "0", "meta.path": "x/0", "output": "0.5", **text},
        {"index": "1", "meta.path": "x/1", "output": "", **text},
    ]
    assert write_predictions(path, [], {}) == 0
    assert path.read_text() == "index\n"


@pytest.mark.parametrize(
    "second",
    [
        Prediction(index=1, outputs={"b": 1}, raw={}),
        Prediction(index=1, outputs={"a": np.zeros(3)}, raw={}, masks={"a": np.array([True, False, True])}),
    ],
    ids=["columns", "masks"],
)
def test_rows_that_do_not_fit_a_table(tmp_path: Path, second: Prediction) -> None:
    """Other columns than those of the first row, and masks, are refused with the sample and another format."""
    first = Prediction(index=0, outputs={"a": 1}, raw={})
    with pytest.raises(UsageError, match=r"sample 1 has .* does not fit into a CSV file .* ends in \.jsonl\.") as error:
        write_predictions(tmp_path / "found.csv", [first, second], {})
    assert "columns index, a" in str(error.value)


def test_a_plugin_writes_a_folder(tmp_path: Path, plugins: Any) -> None:
    """The longest suffix selects the writer; an existing folder is refused and stays unchanged."""
    manager = plugins(pages=[("pages", ".page.csv", ())])
    path = tmp_path / "found.page.csv"
    assert write_predictions(path, texts(2), {}, find_writer(path, manager)) == 2
    assert {file.name: file.read_text() for file in path.iterdir()} == {
        "0.xml": "<page>line 0</page>",
        "1.xml": "<page>line 1</page>",
    }
    with pytest.raises(UsageError, match=r"is a folder\. Give a file"):
        find_writer(path, manager)
    assert find_writer(tmp_path / "found.csv", manager).title.startswith("the writer CSV of aipcore")


def test_paths_without_a_writer(tmp_path: Path, plugins: Any) -> None:
    """An unknown suffix, two writers of one suffix, a missing package or folder, and lost targets are refused."""
    manager = plugins(
        pages=[("pages", ".xml", ()), ("lacking", ".page", ("no_such_package",))], other=[("other", ".xml", ())]
    )
    for name, message in {
        "found.txt": r"The file must end in \.csv, \.jsonl, \.npz, \.parquet, \.xml or \.page\.",
        ".csv": "is not allowed",
        "found.xml": r"the writer other of other 1\.0 and the writer pages of pages 1\.0 write \.xml files",
        "found.page": "lacking of pages 1.0 needs the package no_such_package",
        "none/found.csv": "is not a writable folder",
    }.items():
        with pytest.raises(UsageError, match=message):
            find_writer(tmp_path / name, manager)
    with pytest.raises(UsageError, match=r"must end in \.npz or \.parquet\."):
        find_writer(tmp_path / "found.csv", manager, targets=True)


def test_a_writer_that_stops_early(tmp_path: Path) -> None:
    """A writer that leaves predictions out is an error with the number of those that it read."""
    path = tmp_path / "found.first"

    def first(path: Path, predictions: Any, about: Any) -> None:
        path.write_text(next(predictions).outputs["text"])

    writer = find_writer(path, PluginManager(), own={".first": first})
    with pytest.raises(PluginError, match=r"incomplete: the scenario's format \.first read only 1 prediction\."):
        write_predictions(path, texts(3), {}, writer)


def test_a_full_disk(tmp_path: Path) -> None:
    """An `OSError` of a writer names the file."""
    path = tmp_path / "found.full"

    def full(path: Path, predictions: Any, about: Any) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UsageError, match=r"found\.full cannot be written \(No space left on device\)"):
        write_predictions(path, texts(3), {}, find_writer(path, PluginManager(), own={".full": full}))


def test_bad_formats_of_a_scenario(tmp_path: Path) -> None:
    """The value of `prediction_writers()` is checked."""
    with pytest.raises(UsageError, match=r"prediction_writers\(\) returned 'csv'"):
        find_writer(tmp_path / "found.csv", PluginManager(), own={"csv": print})


def test_predict_in_the_format_of_the_scenario(points: Any, tmp_path: Path, capsys: Any) -> None:
    """`aip predict` writes CSV, and what the scenario offers, with the numbers of JSON Lines."""
    lines, rows, names = (tmp_path / name for name in ("found.jsonl", "found.csv", "found.names"))
    for path in (lines, rows, names):
        assert main(["predict", str(points.folder), "--trust", "--val.limit", "3", "--output", str(path)]) == 0
        assert f"Wrote 3 predictions to {path}." in capsys.readouterr().out
    expected = [json.loads(line)["outputs"] for line in lines.read_text().splitlines()]
    assert [row["class"] for row in table(rows)] == [each["class"] for each in expected]
    assert [float(row["logit"]) for row in table(rows)] == [each["logit"] for each in expected]
    # The format of the scenario has its parameters and the record of the model.
    version, limit, *found = names.read_text().split()
    assert (version, limit) == (__version__, "3")
    assert found == [each["class"] for each in expected]
    assert main(["predict", str(points.folder), "--trust", "--targets", "--output", str(names)]) == 2
    assert "must end in .npz or .parquet." in capsys.readouterr().err


@pytest.mark.parametrize("bare", [True, False])
def test_data_without_a_tuple(bare: bool) -> None:
    """`predict_data()` may return an array or a mapping of arrays: each row is a sample."""
    from aipcore.data.processor import Mode
    from aipcore.params import from_dict
    from aipcore.prediction.data import open_pipeline
    from aipcore.scenario import Scenario, ScenarioParams

    data = np.arange(12, dtype=np.float32).reshape(4, 3)
    scenario = Scenario(from_dict(ScenarioParams, {}))
    given = data if bare else {"x": data}
    with open_pipeline(scenario, given, "predict_data()", mode=Mode.PREDICTION, seed=0) as pipeline:
        found = [sample.inputs if bare else sample.inputs["x"] for sample in pipeline.samples()]
    np.testing.assert_array_equal(found, data)
