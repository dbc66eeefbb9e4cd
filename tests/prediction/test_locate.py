"""Content of a model dir: damaged and hostile ones are refused in one sentence, and run no code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aipcore.cli.main import main
from aipcore.errors import UsageError
from aipcore.prediction import Predictor
from aipcore.prediction.locate import find_model

Edit = Callable[[Callable[[dict[str, Any]], None]], Path]


@pytest.fixture
def edited(points: Any, tmp_path: Path) -> Edit:
    """Copy the best model and change its record."""

    def edited(change: Callable[[dict[str, Any]], None]) -> Path:
        copy = tmp_path / "model"
        shutil.copytree(points.folder / "best", copy)
        about = json.loads((copy / "aip.json").read_text())
        change(about)
        (copy / "aip.json").write_text(json.dumps(about))
        return copy

    return edited


def test_scenario_of_a_file_needs_trust(points: Any, capsys: Any) -> None:
    """The error names the absolute path, and the code does not run."""
    assert main(["lav", str(points.folder)]) == 2
    error = capsys.readouterr().err
    assert f"uses the scenario file {points.folder.parent / 'scenario.py'}" in error
    assert "add --trust" in error


def test_a_record_cannot_name_code(edited: Edit, tmp_path: Path, refused: Any) -> None:
    """A module, a file or an unknown plugin name in a record is not imported."""
    marker = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()")
    for number, scenario in enumerate(
        (
            {"name": "x", "kind": "module", "reference": "evil", "folder": str(tmp_path)},
            {"name": "x", "kind": "file", "reference": str(tmp_path / "evil.py")},
            {"name": str(tmp_path / "evil.py"), "kind": "plugin", "reference": "x"},
            {"name": "evil:Class", "kind": "plugin", "reference": "x"},
        )
    ):
        path = edited(lambda about, s=scenario: about.update(scenario=s)) if number == 0 else tmp_path / "model"
        about = json.loads((path / "aip.json").read_text())
        (path / "aip.json").write_text(json.dumps({**about, "scenario": scenario}))
        with refused(UsageError):
            Predictor.load(path)
    assert not marker.exists()


def test_missing_plugin_names_its_distribution(edited: Edit, refused: Any) -> None:
    """The error names the package to install and its version."""
    scenario = {
        "name": "gone",
        "kind": "plugin",
        "reference": "gone",
        "distribution": "aip-plugin-gone",
        "version": "1.2",
    }
    with refused(UsageError):
        Predictor.load(edited(lambda about: about.update(scenario=scenario)))


def test_plugin_records_where_it_came_from(digits: Any) -> None:
    """A model of a plugin records distribution and version."""
    recorded = find_model(digits.folder).about["scenario"]
    assert (recorded["kind"], recorded["distribution"]) == ("plugin", "aipcore")
    assert recorded["version"]


@pytest.mark.parametrize(
    "place",
    ["../../../etc/passwd", "/etc/passwd", "resources/../../x", "resources", "aip.json", 3, "resources/a\\..\\b", ""],
)
def test_resources_do_not_lead_out(edited: Edit, place: Any, refused: Any) -> None:
    """Path traversal in a record is refused."""
    path = edited(lambda about: about.update(resources={"data.words": place}))
    with refused(UsageError):
        Predictor.load(path, trust=True)


def test_resources_do_not_follow_links_out(edited: Edit, tmp_path: Path, refused: Any) -> None:
    """A link to a file outside is not followed."""
    path = edited(lambda about: None)
    secret = tmp_path / "secret.txt"
    secret.write_text("a b c d")
    (path / "resources" / "words.txt").unlink()
    (path / "resources" / "words.txt").symlink_to(secret)
    with refused(UsageError):
        Predictor.load(path, trust=True)


def test_resources_must_be_listed(edited: Edit, refused: Any) -> None:
    """A parameter that names a file outside, without a copy, is refused."""
    path = edited(lambda about: about.update(resources={}))
    with refused(UsageError):
        Predictor.load(path, trust=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.update(format=99),
        lambda about: about.pop("format"),
        lambda about: about.pop("signature"),
        lambda about: about["signature"]["inputs"].update(x=3),
        lambda about: about["signature"].update(outputs=["other"]),
        lambda about: about.pop("params"),
        lambda about: about.update(params={"data": {"nose": 1}}, resources={}),
        lambda about: about.update(resources=[1]),
        lambda about: about.update(resources={"data.none": "resources/words.txt"}),
    ],
)
def test_damaged_records(edited: Edit, change: Any, refused: Any) -> None:
    """A damaged record is refused in one sentence."""
    with refused(UsageError):
        Predictor.load(edited(change), trust=True)


def test_truncated_files(points: Any, tmp_path: Path, capsys: Any) -> None:
    """A truncated record, graph or weights file is refused in one sentence without a traceback."""
    for number, (name, message) in enumerate(
        [
            ("aip.json", "it is not valid JSON"),
            ("saved_model.pb", "cannot be loaded"),
            ("variables/variables.data-00000-of-00001", "cannot be loaded"),
            ("variables/variables.index", "cannot be loaded"),
        ]
    ):
        copy = tmp_path / str(number)
        shutil.copytree(points.folder / "best", copy)
        content = (copy / name).read_bytes()
        (copy / name).unlink()
        (copy / name).write_bytes(content[: len(content) // 2])
        assert main(["lav", str(copy), "--trust"]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "make",
    [
        lambda path: None,
        lambda path: path.write_text("x"),
        lambda path: path.mkdir(),
        lambda path: (path.mkdir(), (path / "saved_model.pb").write_text("x")),
    ],
)
def test_what_is_no_model(tmp_path: Path, make: Any, refused: Any) -> None:
    """The error names the given path and the accepted ones."""
    make(tmp_path / "path")
    with refused(UsageError):
        find_model(tmp_path / "path")
