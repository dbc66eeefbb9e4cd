"""The plugin manager: which plugins there are, and their records by kind and name."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import attrs

from aipcore.errors import PluginError
from aipcore.hooks.discovery import Plugin, Status, installed, load, new_registry
from aipcore.hooks.kinds import CallbackParams, ExporterParams, OptimizerParams, ScheduleParams
from aipcore.hooks.records import PluginRecord, ScenarioRecord
from aipcore.params.names import nearest, normalize, one_of

BASES: dict[str, type] = {
    "optimizer": OptimizerParams,
    "schedule": ScheduleParams,
    "callback": CallbackParams,
    "exporter": ExporterParams,
}
"""What the parameter class of each kind must extend."""


@attrs.frozen(kw_only=True)
class Entry:
    """A record and the plugin it came from.

    Attributes:
        record: what was registered.
        plugin: by whom.
        status: "ok", or "broken" if another plugin registered the same name.
        reason: why it is broken.
    """

    record: PluginRecord
    plugin: Plugin
    status: Status = "ok"
    reason: str = ""


@attrs.frozen(kw_only=True)
class Switches:
    """Which plugins to leave out.

    Attributes:
        disabled: entry points or distributions, from `-p no:NAME`.
        third_party: whether plugins that do not come with aip are loaded; off by `--no-plugins`.
        only: the third-party entry points or distributions to load, from `AIP_LOAD_PLUGINS`; None for all.
        strict: whether a broken plugin is an error, from `AIP_STRICT_PLUGINS=1`.
    """

    disabled: tuple[str, ...] = ()
    third_party: bool = True
    only: tuple[str, ...] | None = None
    strict: bool = False

    @classmethod
    def from_environment(cls, *, disabled: Sequence[str] = (), third_party: bool = True) -> Switches:
        """The switches of the command line together with those of the environment."""
        only = os.environ.get("AIP_LOAD_PLUGINS")
        return cls(
            disabled=tuple(disabled),
            third_party=third_party,
            only=None if only is None else tuple(name.strip() for name in only.split(",") if name.strip()),
            strict=os.environ.get("AIP_STRICT_PLUGINS", "") not in ("", "0"),
        )


class PluginManager:
    """All plugins, found and loaded on creation; implements `aipcore.params.Choices`.

    Args:
        switches: what to leave out.
        path: where to look for installed distributions; by default `sys.path`.

    Raises:
        PluginError: a switch names no plugin, or plugins are broken and `switches.strict` is set.
    """

    def __init__(self, switches: Switches | None = None, path: list[str] | None = None) -> None:
        self.switches = switches or Switches()
        found = installed(path)
        known = [name for _, plugin in found for name in (plugin.name, plugin.distribution)]
        for name in (*self.switches.disabled, *(self.switches.only or ())):
            if not any(normalize(name) == normalize(other) for other in known):
                near = nearest(name, known)
                hint = f"did you mean {one_of(near)}?" if near else "`aip plugins list` shows all."
                raise PluginError(f"There is no plugin {name!r} to switch on or off; {hint}")
        registry = new_registry()
        taken: dict[str, Plugin] = {}
        self.plugins: list[Plugin] = []
        for point, plugin in found:
            other = taken.get(normalize(plugin.name))
            reason = self._disabled(plugin)
            if reason:
                self.plugins.append(attrs.evolve(plugin, status="disabled", reason=reason))
            elif other is not None:
                reason = f"{other.source} and {plugin.source} both have an entry point {plugin.name}: disable one of them"
                self.plugins.append(attrs.evolve(plugin, status="broken", reason=reason))
                if not other.is_own:
                    self._break(other, reason)
            else:
                taken[normalize(plugin.name)] = plugin
                self.plugins.append(load(point, plugin, registry))
        self.entries: list[Entry] = []
        self._index()
        self._check_strict()

    def _disabled(self, plugin: Plugin) -> str:
        names = {normalize(plugin.name), normalize(plugin.distribution)}
        switches = self.switches
        if any(normalize(name) in names for name in switches.disabled):
            return "disabled by -p no:"
        if plugin.is_own:
            return ""
        if not switches.third_party:
            return "disabled by --no-plugins"
        if switches.only is not None and not any(normalize(name) in names for name in switches.only):
            return "not named in AIP_LOAD_PLUGINS"
        return ""

    def _break(self, plugin: Plugin, reason: str) -> None:
        for position, loaded in enumerate(self.plugins):
            if (loaded.name, loaded.distribution) == (plugin.name, plugin.distribution):
                self.plugins[position] = attrs.evolve(loaded, status="broken", reason=reason, records=())

    def _index(self) -> None:
        by_name: dict[tuple[str, str], list[Entry]] = {}
        for plugin in self.plugins:
            for record in plugin.records:
                key = record.kind, normalize(record.name)
                by_name.setdefault(key, []).append(Entry(record=record, plugin=plugin))
        for entries in by_name.values():
            # What comes with aip keeps its name; otherwise nobody can say which one is meant.
            own = [entry for entry in entries if entry.plugin.is_own]
            keeps = own[0] if own else entries[0] if len(entries) == 1 else None
            sources = one_of(entry.plugin.source for entry in entries).replace(" or ", " and ")
            for entry in entries:
                if entry is keeps:
                    self.entries.append(entry)
                    continue
                other = next(each for each in entries if each is not entry)
                reason = (
                    f"{sources} both register the {entry.record.kind} {entry.record.name}: "
                    f"disable one, by -p no:{entry.plugin.name}"
                    + ("" if other.plugin.is_own else f" or -p no:{other.plugin.name}")
                )
                self.entries.append(attrs.evolve(entry, status="broken", reason=reason))

    def _check_strict(self) -> None:
        broken = [f"{plugin.name} of {plugin.source} is broken ({plugin.reason})" for plugin in self.broken()]
        broken += [entry.reason for entry in self.entries if entry.status == "broken"]
        if self.switches.strict and broken:
            raise PluginError(f"AIP_STRICT_PLUGINS is set, and {'; '.join(broken)}.")

    def broken(self) -> list[Plugin]:
        """The plugins that could not be loaded."""
        return [plugin for plugin in self.plugins if plugin.status == "broken"]

    def of_kind(self, kind: str) -> list[Entry]:
        """The usable entries of a kind."""
        return [entry for entry in self.entries if entry.record.kind == kind and entry.status == "ok"]

    def names(self, kind: str) -> list[str]:
        """The usable names of a kind, ours first."""
        return [entry.record.name for entry in self.of_kind(kind)]

    def entry(self, kind: str, name: str) -> Entry:
        """The entry of this kind and name.

        Raises:
            PluginError: there is none, or two plugins register it.
        """
        conflict = ""
        for entry in self.entries:
            if entry.record.kind == kind and normalize(entry.record.name) == normalize(name):
                if entry.status == "ok":
                    return entry
                conflict = entry.reason
        if conflict:
            raise PluginError(f"The {kind} {name} cannot be used: {conflict}.")
        names = self.names(kind)
        near = nearest(name, names)
        hint = f"did you mean {one_of(near)}?" if near else f"there are {', '.join(names) or 'none'}."
        broken = self.broken()
        if broken:
            hint += f" Broken plugins: {', '.join(plugin.name for plugin in broken)}; see `aip plugins list`."
        raise PluginError(f"There is no {kind} {name!r}; {hint}")

    def canonical(self, kind: str, name: str) -> str:
        """The name as its plugin writes it."""
        return self.entry(kind, name).record.name

    def summary(self, kind: str, name: str) -> str:
        """One sentence on a plugin."""
        return self.entry(kind, name).record.summary

    def params_class(self, kind: str, name: str) -> type:
        """The parameter class of a plugin; for a scenario, that of its class.

        Raises:
            PluginError: it cannot be imported, or is none of the right kind.
        """
        entry = self.entry(kind, name)
        if isinstance(entry.record, ScenarioRecord):
            found: Any = getattr(self.load_build(kind, name), "params_class", None)
            base: type = object
        else:
            found = getattr(entry.record, "params", None)
            found = self._import(entry, found) if isinstance(found, str) else found
            base = BASES.get(kind, object)
        if not (isinstance(found, type) and issubclass(found, base) and attrs.has(found)):
            raise PluginError(
                f"The {kind} {entry.record.name} of {entry.plugin.source} is broken: its params must be a @params class "
                f"that extends {base.__name__}."
            )
        return found

    def name_of(self, kind: str, cls: type) -> str:
        """The name of the plugin whose parameter class is `cls`.

        Raises:
            PluginError: there is none.
        """
        reference = f"{cls.__module__}:{cls.__qualname__}"
        for entry in self.of_kind(kind):
            params = getattr(entry.record, "params", None)
            if params is cls or params == reference:
                return entry.record.name
        for entry in self.of_kind(kind):
            if self.params_class(kind, entry.record.name) is cls:
                return entry.record.name
        raise PluginError(f"{reference} is no {kind} of any plugin; there are {', '.join(self.names(kind)) or 'none'}.")

    def load_build(self, kind: str, name: str) -> Callable[..., Any]:
        """What a plugin's `build` names, imported now.

        Raises:
            PluginError: it cannot be imported.
        """
        entry = self.entry(kind, name)
        built: Callable[..., Any] = self._import(entry, entry.record.build)
        return built

    def find_scenario(self, text: str) -> tuple[str, object] | None:
        """The name and class of a scenario plugin, or None if no plugin has this name."""
        if not any(
            entry.record.kind == "scenario" and normalize(entry.record.name) == normalize(text) for entry in self.entries
        ):
            return None
        return self.canonical("scenario", text), self.load_build("scenario", text)

    def versions(self) -> dict[str, str]:
        """The version of each distribution that has a working plugin."""
        return {plugin.distribution: plugin.version for plugin in self.plugins if plugin.status == "ok"}

    def _import(self, entry: Entry, reference: str) -> Any:
        module, colon, attribute = reference.partition(":")
        try:
            if not colon:
                raise ImportError(f"{reference!r} is not of the form module:attribute")
            target: Any = importlib.import_module(module)
            for part in attribute.split("."):
                target = getattr(target, part)
        except Exception as error:
            raise PluginError(
                f"The {entry.record.kind} {entry.record.name} of {entry.plugin.source} is broken: {reference} cannot be "
                f"imported ({type(error).__name__}: {error}); run again with --debug for the traceback."
            ) from error
        return target


_switches = Switches()


def configure_plugins(switches: Switches) -> None:
    """Sets which plugins this process leaves out; to be called before the first `get_plugin_manager`."""
    global _switches  # noqa: PLW0603 - the command line has one say, at the start
    _switches = switches
    get_plugin_manager.cache_clear()


@cache
def get_plugin_manager() -> PluginManager:
    """The plugin manager of this process."""
    return PluginManager(_switches)
