"""The plugin manager: names, classes and references of plugins, and errors for missing ones."""

from __future__ import annotations

from typing import Any

import pytest

from aipcore.errors import PluginError
from aipcore.hooks.discovery import KINDS, Switches
from aipcore.hooks.manager import BASES, configure_plugins, get_plugin_manager
from aipcore.hooks.references import find_source
from aipcore.params import Choices, component, params, resolve, to_dict
from aipcore.params.files import Layer


def test_implements_choices(install, load, optimizer):
    """Plugin parameters can be set on the command line and are restored from a file under the plugin's name."""
    install("odd", optimizer("OddOne"))
    manager: Choices = load()

    @params
    class Root:
        optimizer: object = component("optimizer", default="Adam", help="The optimizer.")

    made = resolve(Root, [Layer.from_arguments(["--optimizer", "odd_one", "--optimizer.twist", "2"])], manager).value
    assert made.optimizer.params.twist == 2.0
    assert to_dict(made)["optimizer"]["name"] == "OddOne"
    assert manager.summary("optimizer", "oddone") == "Made up."


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "command"])
def test_built_in_plugins_are_complete(kind, load):
    """Every built-in plugin has a parameter class of its kind, if it has any, and its source can be found."""
    manager = load()
    assert manager.of_kind(kind)
    for record in manager.records(kind):
        if kind != "writer":
            assert issubclass(manager.params_class(kind, record.name), BASES.get(kind, object))
        assert find_source(record.build, record.name) is not None


def test_built_in_plugins_come_first(install, load, optimizer):
    """Built-in names are listed first, and plugins do not reorder them."""
    install("aaa", optimizer("AAA"))
    assert load().names("optimizer")[-1] == "AAA"


@pytest.mark.parametrize(
    "name",
    ["adm", "ada-belif", "zzz"],
)
def test_unknown_name(name, load, refused: Any):
    """An unknown name is an error with similar names, or with all."""
    with refused(PluginError):
        load().get("optimizer", name)


def test_unknown_name_mentions_broken_plugins(install, load, refused: Any):
    """An error for an unknown name mentions broken plugins, which may have registered it."""
    install("lookahead", "1 / 0")
    with refused(PluginError):
        load().get("optimizer", "lookahead")


def test_find_scenario(load):
    """A scenario's name returns its class, and an unknown name None."""
    name, cls = load().find_scenario("Tutorial")
    assert name == "tutorial"
    assert cls.__name__ == "Tutorial"
    assert load().find_scenario("tutoriall") is None


def test_versions(install, load, optimizer):
    """Only distributions with a working plugin are recorded."""
    install("odd", optimizer("Odd"), version="3.1")
    install("even", "1 / 0")
    versions = load().versions()
    assert versions["odd"] == "3.1"
    assert set(versions) == {"aipcore", "odd"}


def test_process_wide_manager():
    """There is one manager until other switches are set."""
    first = get_plugin_manager()
    assert get_plugin_manager() is first
    try:
        configure_plugins(Switches(disabled=("callbacks",)))
        assert get_plugin_manager().names("callback") == []
    finally:
        configure_plugins(Switches())


SOURCE = '''
"""The module."""

raise RuntimeError("this must not run")

class Thing:
    """The thing."""

    def method(self):
        """Of the thing."""

def make():
    """Makes it."""
'''


@pytest.mark.parametrize(
    ("attribute", "name", "line", "docstring"),
    [
        ("Thing", "Thing", 5, "The thing."),
        ("make", "thing", 5, "The thing."),
        ("make", "other", 11, "Makes it."),
        ("Thing.method", "other", 8, "Of the thing."),
        ("elsewhere", "other", None, "The module."),
    ],
)
def test_find_source_runs_nothing(attribute, name, line, docstring, site, monkeypatch):
    """Line and docstring are read from the file. A factory function is replaced by the class with the plugin's name."""
    monkeypatch.syspath_prepend(site)
    (site / "written.py").write_text(SOURCE.lstrip())
    found = find_source(f"written:{attribute}", name)
    assert found.file == site / "written.py"
    assert (found.line, found.docstring) == (line, docstring)


@pytest.mark.parametrize("module", ["nowhere", "nowhere.at.all", "sys", "malformed", "failing.inner"])
def test_find_source_without_readable_source(module, site, monkeypatch):
    """A missing source is not an error."""
    monkeypatch.syspath_prepend(site)
    (site / "malformed.py").write_text("def (")
    (site / "failing").mkdir()
    (site / "failing" / "__init__.py").write_text("1 / 0")
    assert find_source(f"{module}:thing", "thing") is None
