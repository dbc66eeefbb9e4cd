"""Plugin files: from `-p FILE`, from a project's pyproject.toml, and beside a scenario."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aipcore.errors import PluginError, UsageError
from aipcore.hooks import plugin_files
from aipcore.hooks.discovery import PluginFile, Switches
from aipcore.hooks.manager import PluginManager
from aipcore.hooks.plugin_files import named_file, project_files

SOURCE = """
from aipcore.plugin import OptimizerParams, OptimizerRecord, field, hookimpl, params

@params
class Params(OptimizerParams):
    '''Options of a made-up optimizer.'''
    twist: float = field(0.5, help="How much.")

def build(params, learning_rate):
    return params.twist, learning_rate

@hookimpl
def aip_optimizers():
    return [OptimizerRecord(name="NAME", summary="Made up.", params=Params, build=build)]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make the working folder; forget the modules of a test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(plugin_files.MODULE) or name == "beside":
            del sys.modules[name]


def write(path: str, name: str = "Mine", more: str = "") -> Path:
    """Write a plugin file with one optimizer."""
    file = Path(path)
    file.parent.mkdir(exist_ok=True)
    file.write_text(SOURCE.replace("NAME", name) + more, encoding="utf-8")
    return file.absolute()


def load(*files: PluginFile, **switches: Any) -> PluginManager:
    """Return the manager for some plugin files."""
    return PluginManager(Switches(files=files, **switches))


def test_a_file_is_a_plugin() -> None:
    """Its components are available by name, with their functions as builders, and messages name the file."""
    manager = load(named_file(str(write("own/mine.py"))))
    entry = manager.entry("optimizer", "mine")
    assert (entry.plugin.name, entry.plugin.source) == ("mine", "own/mine.py")
    cls = manager.params_class("optimizer", "Mine")
    assert manager.load_build("optimizer", "Mine")(cls(twist=0.25), 0.1) == (0.25, 0.1)
    assert "own/mine.py" not in manager.versions()


def test_files_of_one_name() -> None:
    """Two files with one name in two folders are two modules."""
    manager = load(named_file(str(write("a/same.py", "One"))), named_file(str(write("b/same.py", "Two"))))
    builds = [manager.load_build("optimizer", name) for name in ("One", "Two")]
    assert builds[0].__module__ != builds[1].__module__


def test_modules_beside_the_file() -> None:
    """A module beside the file can be imported, but cannot hide a library."""
    Path("beside.py").write_text("VALUE = 3\n")
    Path("random.py").write_text("raise SystemExit('imported')\n")
    manager = load(named_file(str(write("mine.py", more="\nimport beside, random\nassert beside.VALUE == 3\n"))))
    assert manager.has("optimizer", "Mine")


def test_the_name_of_an_installed_component() -> None:
    """It is an error to use the name, which says where to rename it; other components work."""
    manager = load(named_file(str(write("mine.py", "adam"))), named_file(str(write("other.py", "Other"))))
    with pytest.raises(PluginError, match=r"aipcore \S+ and mine\.py both register .*: rename it in mine\.py"):
        manager.get("optimizer", "Adam")
    assert manager.has("optimizer", "Other")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("1 / 0", r"mine\.py cannot be imported: ZeroDivisionError: division by zero \(.*mine\.py, line 1\)"),
        ("VALUE = 1", r"mine\.py implements no hook in mine\.py: define one of aip_optimizers"),
        ("def aip_optimizers(): ...", r"mine\.py does not mark its function aip_optimizers as a hook"),
        (SOURCE.replace("build=build", "build=lambda p, r: None"), r"build=.*<lambda>, which has no name"),
    ],
)
def test_a_broken_file_is_an_error(source: str, text: str) -> None:
    """A file that the user names must work: the error has the reason and the line."""
    Path("mine.py").write_text(source)
    with pytest.raises(PluginError, match=text):
        load(named_file("mine.py"))


def test_a_missing_file() -> None:
    """`-p` names a file that exists."""
    with pytest.raises(UsageError, match=r"There is no plugin file no/mine\.py"):
        named_file("no/mine.py")


def test_a_broken_file_of_the_project_is_isolated() -> None:
    """It is listed as broken, as an installed plugin is, and everything else works."""
    Path("mine.py").write_text("1 / 0")
    Path("pyproject.toml").write_text("[tool.aip]\nplugins = ['mine.py', 'none.py']\n")
    manager = load(*project_files(Path.cwd()))
    assert {plugin.name: plugin.reason for plugin in manager.broken()}["none"] == "is missing"
    with pytest.raises(PluginError, match=r"mine\.py is broken: cannot be imported"):
        manager.get("optimizer", "Mine")
    assert manager.has("optimizer", "Adam")


def test_project_is_found_upwards(folder: Path) -> None:
    """The nearest pyproject.toml with the table counts; its paths are relative to it."""
    (folder / "pyproject.toml").write_text("[tool.aip]\nplugins = ['plug/mine.py']\n")
    inner = folder / "deep" / "down"
    inner.mkdir(parents=True)
    (inner / "pyproject.toml").write_text("[project]\nname = 'aip-something'\n")
    assert [(file.path, file.reason) for file in project_files(inner)] == [(folder / "plug" / "mine.py", "")]
    (inner / "pyproject.toml").write_text("[tool.aip]\n")
    assert project_files(inner) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.aip]\nplugin = ['a.py']", "unknown key 'plugin'. Did you mean plugins?"),
        ("[tool.aip]\nplugins = 'a.py'", "is not a list of .py files"),
        ("[tool.aip]\nplugins = ['package']", "is not a list of .py files"),
        ("[tool]\naip = 3", "tool.aip is not a table"),
        ("[tool.aip", "is not valid TOML"),
    ],
)
def test_mistakes_in_the_project(text: str, message: str) -> None:
    """Each mistake is one sentence."""
    Path("pyproject.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        project_files(Path.cwd())
    assert message in str(caught.value)


@pytest.mark.parametrize("record", ["run.json", "aip.json", "progress.json", "sweep.json"])
def test_a_project_in_a_folder_of_data_is_not_used(folder: Path, record: str) -> None:
    """A run or a model that brings a pyproject.toml runs no code, wherever in the folder it is."""
    (folder / record).write_text("{}")
    inner = folder / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").write_text("[tool.aip]\nplugins = ['mine.py']\n")
    (inner / "mine.py").write_text("raise SystemExit('run')")
    (file,) = project_files(inner)
    assert record in file.reason
    (plugin,) = [each for each in load(file).plugins if each.file]
    assert (plugin.status, plugin.reason) == ("disabled", file.reason)


def test_a_project_of_another_user_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pyproject.toml in a shared folder such as /tmp runs no code of its owner; one of root does."""
    Path("pyproject.toml").write_text("[tool.aip]\nplugins = ['mine.py']\n")
    owner = Path("pyproject.toml").stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert bool(project_files(Path.cwd())[0].reason) == (owner != 0)
    monkeypatch.setattr(os, "getuid", lambda: owner)
    assert project_files(Path.cwd())[0].reason == ""


def test_switches() -> None:
    """`-p no:`, `--no-plugins` and `AIP_LOAD_PLUGINS` disable files of a project; those of `-p` are meant."""
    write("mine.py")
    Path("pyproject.toml").write_text("[tool.aip]\nplugins = ['mine.py']\n")
    project, named = project_files(Path.cwd()), named_file("mine.py")
    assert load(*project).has("optimizer", "Mine")
    for off in ({"disabled": ("mine",)}, {"third_party": False}, {"only": ()}):
        assert not load(*project, **off).has("optimizer", "Mine")
    assert load(named, *project, third_party=False, only=()).has("optimizer", "Mine")
    assert not load(named, disabled=("mine",)).has("optimizer", "Mine")
    (untrusted,) = project_files(Path.cwd(), untrusted=True)
    with pytest.raises(PluginError, match=r"mine\.py is disabled: .*add --trust, or name the file with -p"):
        load(untrusted).get("optimizer", "Mine")
    assert load(named, untrusted).has("optimizer", "Mine")


def test_switches_of_another_process() -> None:
    """They are equal after they are sent as JSON."""
    switches = Switches(disabled=("a",), only=("b",), files=(named_file(str(write("mine.py"))),), strict=True)
    assert Switches.from_plain(switches.to_plain()) == switches


def test_hooks_beside_a_scenario() -> None:
    """They extend a copy of the manager; the module of an installed plugin, or without hooks, adds nothing."""
    manager = PluginManager()
    module = ModuleType("birds")
    assert manager.with_scenario(module) is manager
    exec(SOURCE.replace("NAME", "Own"), vars(module))
    sys.modules["birds"] = module
    try:
        more = manager.with_scenario(module)
        assert more.names("optimizer") == [*manager.names("optimizer"), "Own"]
        assert more.with_scenario(module) is more
    finally:
        del sys.modules["birds"]
    assert manager.with_scenario(sys.modules["aip_plugins.optimizers"]) is manager


def test_a_scenario_file_that_is_a_plugin_file_too() -> None:
    """It is loaded once, so that no name is registered twice."""
    path = write("mine.py")
    manager = load(named_file("mine.py"))
    module = ModuleType("aip_scenario_mine")
    module.__file__ = str(path)
    exec(SOURCE.replace("NAME", "Mine"), vars(module))
    assert manager.with_scenario(module) is manager
