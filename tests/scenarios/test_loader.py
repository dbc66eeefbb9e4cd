"""Loading of a scenario class from the user's argument."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aipcore.errors import ScenarioError
from aipcore.hooks.manager import get_plugin_manager
from aipcore.scenario.loader import LoadedScenario, load_scenario

SOURCE = "from aipcore.scenario import Scenario\n\nclass {}(Scenario):\n    '''One.'''\n"


def load(text: str) -> LoadedScenario:
    """Load a scenario as the command line does."""
    plugins = get_plugin_manager()
    return load_scenario(text, names=list(plugins.names("scenario")), find=plugins.find_scenario)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a working folder with a package and modules, which are unloaded afterwards."""
    package = tmp_path / "birds"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "scenario.py").write_text(SOURCE.format("BirdSong"))
    (package / "pair.py").write_text(SOURCE.format("First") + SOURCE.format("Second") + "other = 3\n")
    (tmp_path / "beside.py").write_text("VALUE = 1\n")
    (tmp_path / "lone.py").write_text("import beside\n" + SOURCE.format("Lone"))
    (tmp_path / "heir.py").write_text("from birds.scenario import BirdSong\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("birds", "beside", "heir") or name.startswith("aip_scenario_"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "name", "cls"),
    [
        ("tutorial", "tutorial", "Tutorial"),
        ("TUTORIAL", "tutorial", "Tutorial"),
        ("birds", "birds", "BirdSong"),
        ("birds.scenario", "scenario", "BirdSong"),
        ("birds.scenario:BirdSong", "bird_song", "BirdSong"),
        ("birds.pair:Second", "second", "Second"),
        ("lone.py", "lone", "Lone"),
        ("./lone.py", "lone", "Lone"),
        ("birds/pair.py:First", "first", "First"),
        ("heir.py", "heir", "BirdSong"),
    ],
)
def test_every_way_to_name_a_scenario(folder: Path, text: str, name: str, cls: str) -> None:
    """A scenario can be a plugin, a package with a `scenario` module, a module or file, or a class in either."""
    del folder
    found = load(text)
    assert (found.name, found.cls.__name__) == (name, cls)


@pytest.mark.parametrize(
    "text",
    [
        "birds.pair",
        "birds.pair:Third",
        "birds.pair:other",
        "birds.nests",
        "no.such.module",
        "beside.py",
        "folder/none.py",
        "tutoral",
        "???",
    ],
)
def test_what_cannot_be_loaded_is_named(folder: Path, text: str, refused: Any) -> None:
    """One sentence names the fault."""
    del folder
    with refused(ScenarioError):
        load(text)


def test_incomplete_base_is_ignored(folder: Path) -> None:
    """Of a base and the scenario that completes it, the second is selected; the base can still be named."""
    complete = "class Whole(Base):\n    def train_data(self): ...\n    def build(self, inputs): ...\n"
    complete += "    def losses(self): ...\n"
    (folder / "family.py").write_text(SOURCE.format("Base") + complete)
    assert load("family.py").cls.__name__ == "Whole"
    assert load("family.py:Base").cls.__name__ == "Base"


def test_recorded_scenario_loads_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with a relative path, and a module in the working folder, can be loaded from elsewhere."""
    from aipcore.hooks.manager import get_plugin_manager
    from aipcore.scenario.record import recorded_scenario

    source = "from aipcore.scenario import Scenario\n\nclass One(Scenario):\n    pass\n"
    (tmp_path / "some_file.py").write_text(source)
    (tmp_path / "recorded_package").mkdir()
    (tmp_path / "recorded_package" / "scenario.py").write_text(source)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    plugins = get_plugin_manager()
    loaded = [load_scenario(text, names=[], find=lambda _: None) for text in ("some_file.py:One", "recorded_package")]
    assert loaded[0].reference == f"{tmp_path / 'some_file.py'}:One"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])
    for each in loaded:
        recorded = {"name": each.name, "kind": each.kind, "reference": each.reference, "folder": str(tmp_path)}
        found = recorded_scenario({"scenario": recorded}, plugins, trust=True, where=tmp_path)
        assert (found.name, found.cls.__name__) == (each.name, "One")


@pytest.mark.parametrize("name", ["keras.py", "numpy.py", "random.py", "yaml/__init__.py", "profile.py"])
def test_a_file_that_hides_a_library(folder: Path, name: str, refused: Any) -> None:
    """A file or package beside the scenario with the name of a library is reported before anything imports it."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("raise SystemExit('imported')\n")
    for text in ("lone.py", "birds.scenario"):
        with refused(ScenarioError):
            load(text)


def test_a_scenario_file_that_hides_a_library(folder: Path, refused: Any) -> None:
    """The scenario's file counts too; folders without `__init__.py`, and libraries that aip does not need, do not."""
    (folder / "numpy").mkdir()
    (folder / "pytest.py").write_text(SOURCE.format("Own"))
    assert load("pytest.py").cls.__name__ == "Own"
    (folder / "keras.py").write_text(SOURCE.format("Own"))
    with refused(ScenarioError):
        load("keras.py")


def test_an_import_that_fails_names_its_line(folder: Path) -> None:
    """The error names the line in the author's innermost file."""
    (folder / "helper.py").write_text("\nVALUE = {}['key']\n")
    (folder / "caller.py").write_text("import helper\n" + SOURCE.format("Own"))
    with pytest.raises(ScenarioError, match=r"helper.py, line 2: KeyError: 'key'"):
        load("caller.py")
