"""Switches that disable plugins or require all of them."""

from __future__ import annotations

from typing import Any

import pytest

from aipcore.errors import PluginError
from aipcore.hooks.discovery import Switches


def states(manager):
    """Return the status and the reason of each third-party plugin."""
    return {plugin.name: (plugin.status, plugin.reason) for plugin in manager.plugins if not plugin.is_own}


@pytest.fixture
def two(install, optimizer):
    """Install two plugins; the second has an entry point with another name than its distribution."""
    install("first", optimizer("One"))
    install("aip-plugin-second", optimizer("Two"), entry_points={"second": "aip_plugin_second"})


@pytest.mark.usefixtures("two")
class TestSwitches:
    """Tests with two installed plugins."""

    @pytest.mark.parametrize("name", ["second", "Second", "aip-plugin-second", "aip_plugin_second"])
    def test_no(self, load, name, refused: Any):
        """`-p no:` accepts an entry point or a distribution, and does not import it."""
        manager = load(disabled=(name,))
        assert states(manager) == {"first": ("ok", ""), "second": ("disabled", f"disabled by -p no:{name}")}
        with refused(PluginError):
            manager.get("optimizer", "Two")

    def test_no_several(self, load):
        """`-p no:` can be repeated."""
        assert {status for status, _ in states(load(disabled=("first", "second"))).values()} == {"disabled"}

    def test_no_disables_built_in_plugins(self, load):
        """Built-in plugins can be disabled too."""
        manager = load(disabled=("callbacks",))
        assert manager.names("callback") == []
        assert "Adam" in manager.names("optimizer")

    def test_no_unknown(self, load, refused: Any):
        """An unknown name is an error with similar names."""
        with refused(PluginError):
            load(disabled=("seconnd",))

    def test_no_plugins(self, load):
        """`--no-plugins` disables all third-party plugins."""
        manager = load(third_party=False)
        assert states(manager) == dict.fromkeys(("first", "second"), ("disabled", "disabled by --no-plugins"))
        assert "Adam" in manager.names("optimizer")

    def test_only(self, load):
        """`AIP_LOAD_PLUGINS` loads the named plugins besides the built-in ones."""
        manager = load(only=("first",))
        assert states(manager) == {"first": ("ok", ""), "second": ("disabled", "not named in AIP_LOAD_PLUGINS")}
        assert "Adam" in manager.names("optimizer")

    def test_only_nothing(self, load):
        """An empty `AIP_LOAD_PLUGINS` loads only the built-in plugins."""
        assert {status for status, _ in states(load(only=())).values()} == {"disabled"}

    def test_only_unknown(self, load, refused: Any):
        """An unknown name in `AIP_LOAD_PLUGINS` is an error."""
        with refused(PluginError):
            load(only=("fist",))

    def test_strict_without_broken_plugins(self, load):
        """Without a broken plugin, strict mode changes nothing; a disabled one is not broken."""
        assert states(load(strict=True, disabled=("first",)))["second"][0] == "ok"

    def test_strict_and_broken(self, install, load, refused: Any):
        """A broken plugin is an error with its reason, chained to the plugin's exception."""
        install("third", "1 / 0")
        with refused(PluginError) as caught:
            load(strict=True)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)

    def test_strict_and_conflict(self, install, load, optimizer, refused: Any):
        """A name that is registered twice is reported once."""
        install("third", optimizer("One"))
        with refused(PluginError):
            load(strict=True)


def test_environment(monkeypatch):
    """Environment variables set the switches."""
    monkeypatch.setenv("AIP_LOAD_PLUGINS", " a, b ,")
    monkeypatch.setenv("AIP_STRICT_PLUGINS", "1")
    assert Switches.from_environment(disabled=["c"]) == Switches(disabled=("c",), only=("a", "b"), strict=True)
    monkeypatch.delenv("AIP_LOAD_PLUGINS")
    monkeypatch.setenv("AIP_STRICT_PLUGINS", "0")
    assert Switches.from_environment() == Switches()
