"""Conflicting names of two plugins: an error that names both and the switches to disable one."""

from __future__ import annotations

import re
from typing import Any

from aipcore.errors import PluginError


def test_same_plugin_name(install, load, optimizer, refused: Any):
    """Both plugins are broken, the name is an error with both versions and switches, and other plugins work."""
    install("first", optimizer("Twin") + "\n", version="1.1")
    install("second", optimizer("tw-in"), version="2.2", entry_points={"other": "second"})
    install("third", optimizer("Alone"))
    manager = load()
    with refused(PluginError):
        manager.canonical("optimizer", "twin")
    assert [entry.status for entry in manager.entries if entry.plugin.name in ("first", "other")] == ["broken"] * 2
    assert {"Adam", "Alone"} <= set(manager.names("optimizer"))
    assert "Twin" not in manager.names("optimizer")


def test_disabling_one_resolves_it(install, load, optimizer):
    """The switches from the error resolve the conflict."""
    install("first", optimizer("Twin"))
    install("second", optimizer("Twin"))
    assert load(disabled=("first",)).entry("optimizer", "Twin").plugin.name == "second"
    assert load(disabled=("second",)).entry("optimizer", "Twin").plugin.name == "first"


def test_same_name_in_two_kinds(install, load, optimizer):
    """Names are unique only within a kind."""
    install("first", optimizer("Twin"))
    source = optimizer("Twin").replace("Optimizer", "Schedule").replace("aip_optimizers", "aip_schedules")
    install("second", source)
    manager = load()
    assert manager.entry("optimizer", "twin").plugin.name == "first"
    assert manager.entry("schedule", "twin").plugin.name == "second"


def test_name_of_ours(install, load, optimizer, refused: Any):
    """A name of a built-in plugin is ambiguous too, since a silent choice could train with the wrong one."""
    install("first", optimizer("adam"))
    manager = load()
    with refused(PluginError):
        manager.get("optimizer", "Adam")
    assert load(disabled=("first",)).canonical("optimizer", "adam") == "Adam"


def test_twice_in_one_plugin(install, load, optimizer, refused: Any):
    """A plugin that registers a name twice gets an error."""
    install("first", optimizer("Twin").replace("return [", "return 2 * ["))
    with refused(PluginError):
        load().get("optimizer", "Twin")


def test_same_entry_point_name(install, load, optimizer, refused: Any):
    """Both are broken and name each other; the distributions' names distinguish them."""
    install("first", optimizer("One"), version="1.1", entry_points={"same": "first"})
    install("second", optimizer("Two"), version="2.2", entry_points={"same": "second"})
    install("third", optimizer("Alone"))
    manager = load()
    reasons = {plugin.distribution: plugin.reason for plugin in manager.broken()}
    assert reasons == {
        "first": "has the same entry-point name as second 2.2: disable one with -p no:first or -p no:second",
        "second": "has the same entry-point name as first 1.1: disable one with -p no:first or -p no:second",
    }
    assert {"Adam", "Alone"} <= set(manager.names("optimizer"))
    with refused(PluginError):
        manager.get("optimizer", "One")
    assert "Two" in load(disabled=("first",)).names("optimizer")


def test_built_in_entry_point_name(install, load, optimizer):
    """The built-in plugin stays: a third-party entry point cannot replace the optimizers."""
    install("first", optimizer("One"), entry_points={"optimizers": "first"})
    manager = load()
    (broken,) = manager.broken()
    assert broken.distribution == "first"
    assert re.fullmatch(r"has the same entry-point name as aipcore \S+: disable one with -p no:first", broken.reason)
    assert "Adam" in manager.names("optimizer")


def test_command_of_aip(install, load, refused: Any):
    """A plugin cannot use the name of an existing or reserved command of aip."""
    source = """
from aipcore.plugin import CommandRecord, hookimpl
@hookimpl
def aip_commands():
    return [CommandRecord(name=name, summary="Mine.", build="first:command") for name in ("Resume", "hello")]
"""
    install("first", source)
    manager = load()
    assert manager.names("command") == ["sweep", "hello"]
    with refused(PluginError):
        manager.get("command", "resume")


def test_two_copies_of_one_distribution(install, load, optimizer, site, tmp_path, monkeypatch):
    """The first copy on the path counts, as for imports; the other, in any version and spelling, is not a duplicate."""
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.syspath_prepend(other)
    install("aip-Plugin-Twin", optimizer("Twin"), version="2.0", folder=other)
    install("aip_plugin_twin", optimizer("Twin"), version="1.0")
    manager = load()
    assert manager.broken() == []
    assert manager.entry("optimizer", "Twin").plugin.version == "2.0"
