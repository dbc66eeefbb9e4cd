"""The plugin manager: all plugins, and their records by kind and name. Only this module calls hooks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import copy
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pluggy

from aipcore.errors import TRACEBACK, PluginError, sentence
from aipcore.hooks import specs
from aipcore.hooks.discovery import HOOKS, Entry, Plugin, PluginFile, Switches, index_entries, installed
from aipcore.hooks.loading import BrokenPluginError, collect, has_hooks, import_plugin
from aipcore.hooks.plugin_files import fingerprint_of, import_file, make_plugin, plugin_of_file
from aipcore.hooks.records import (
    PROJECT,
    CallbackParams,
    ExporterParams,
    OptimizerParams,
    PluginRecord,
    ScenarioRecord,
    ScheduleParams,
)
from aipcore.hooks.references import import_reference
from aipcore.params.declare import Choice
from aipcore.params.names import nearest, normalize, one_of

BASES: dict[str, type] = {
    "optimizer": OptimizerParams,
    "schedule": ScheduleParams,
    "callback": CallbackParams,
    "exporter": ExporterParams,
}
"""Required base class of the parameter class, by kind."""


class PluginManager:
    """All installed plugins and plugin files, loaded on creation. Implements `aipcore.params.Choices`.

    A plugin that fails to load is kept with the reason, and does not affect other plugins.

    Args:
        switches: switches that disable plugins.

    Attributes:
        switches: as given.
        plugins: all installed entry points and plugin files, loaded or not; built-in ones first.
        entries: all records of the loaded plugins.

    Raises:
        PluginError: a switch does not match any plugin, a file of `-p FILE` is broken, or plugins are broken and
            `switches.strict` is True.
    """

    def __init__(self, switches: Switches | None = None) -> None:
        self.switches = switches or Switches()
        found: list[Found] = [(point.load, plugin) for point, plugin in installed()]
        files: dict[Path, PluginFile] = {}
        for file in self.switches.files:
            # A file of an option may be one of the project too.
            files.setdefault(file.path, file)
        found += [(partial(import_file, path), plugin_of_file(file)) for path, file in files.items()]
        self.switches.check([plugin for _, plugin in found])
        self._use(_load_all(found, self.switches))
        for plugin in self.broken():
            if plugin.given == "option":
                raise _broken_file(plugin)
        if self.switches.strict:
            self._refuse_broken()

    def _use(self, plugins: list[Plugin]) -> None:
        self.plugins = plugins
        self.entries = index_entries(self.plugins)
        self._by_name: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries:
            self._by_name.setdefault((entry.record.kind, normalize(entry.record.name)), []).append(entry)
        self._classes: dict[tuple[str, str], type] = {}

    def with_file(self, file: PluginFile) -> PluginManager:
        """Return these plugins and those of a file.

        Raises:
            PluginError: the file is broken.
        """
        return self._with(partial(import_file, file.path), plugin_of_file(file))

    def with_scenario(self, module: ModuleType) -> PluginManager:
        """Return these plugins and those that the module of a scenario defines; the same manager if it defines none.

        Raises:
            PluginError: a hook of the module is broken.
        """
        if not has_hooks(module):
            return self
        name = getattr(module, "__file__", None) or module.__name__
        path = Path(name).resolve()
        loaded = [each for each in self.plugins if each.status == "ok"]
        if any(module.__name__ == each.module or (each.file and each.file.resolve() == path) for each in loaded):
            return self
        return self._with(lambda: module, make_plugin(path, module.__name__, fingerprint_of(path), "scenario"))

    def _with(self, load: Callable[[], Any], plugin: Plugin) -> PluginManager:
        (loaded,) = _load_all([(load, plugin)], self.switches)
        if loaded.status == "broken":
            raise _broken_file(loaded)
        made = copy(self)
        made._use([*self.plugins, loaded])
        return made

    def _refuse_broken(self) -> None:
        broken = [f"the plugin {plugin.name} of {plugin.source} {plugin.reason}" for plugin in self.broken()]
        broken += dict.fromkeys(entry.reason for entry in self.entries if entry.status == "broken")
        if broken:
            cause = next((plugin.error for plugin in self.broken()), None)
            raise PluginError(f"AIP_STRICT_PLUGINS is set, and {'; '.join(broken)}.") from cause

    def broken(self) -> list[Plugin]:
        """The plugins that failed to load."""
        return [plugin for plugin in self.plugins if plugin.status == "broken"]

    def versions(self) -> dict[str, str]:
        """Return the version of each distribution with a working plugin."""
        packages = [plugin for plugin in self.plugins if plugin.status == "ok" and plugin.file is None]
        return {plugin.distribution: plugin.version for plugin in packages}

    def of_kind(self, kind: str) -> list[Entry]:
        """Return the usable entries of a kind, built-in ones first."""
        return [entry for entry in self.entries if entry.record.kind == kind and entry.status == "ok"]

    def records(self, kind: str) -> list[PluginRecord]:
        """Return the usable records of a kind, built-in ones first."""
        return [entry.record for entry in self.of_kind(kind)]

    def names(self, kind: str) -> list[str]:
        """Return the usable names of a kind, built-in ones first."""
        return [entry.record.name for entry in self.of_kind(kind)]

    def has(self, kind: str, name: str) -> bool:
        """Return True if any plugin, usable or not, registers this name."""
        return (kind, normalize(name)) in self._by_name

    def entry(self, kind: str, name: str) -> Entry:
        """Return the entry with this kind and name.

        Raises:
            PluginError: the name is unknown or registered twice.
        """
        found = self._by_name.get((kind, normalize(name)))
        if found is None:
            raise PluginError(self._unknown(kind, name))
        for entry in found:
            if entry.status == "ok":
                return entry
        raise PluginError(f"The {kind} {name} cannot be used because {found[0].reason}.")

    def _unknown(self, kind: str, name: str) -> str:
        names = self.names(kind)
        near = nearest(name, names)
        message = f"There is no {kind} {name!r}; "
        message += f"did you mean {one_of(near)}?" if near else f"available: {', '.join(names) or 'none'}."
        # A disabled or broken plugin may provide it.
        silent = [
            f"{plugin.name} of {plugin.distribution} is {plugin.status}"
            if plugin.file is None
            else f"{plugin.source} is {plugin.status}: {plugin.reason}"
            for plugin in self.plugins
            if plugin.status != "ok"
        ]
        if silent:
            listed = "; ".join(silent[:3]) + (f"; {len(silent) - 3} more" if len(silent) > 3 else "")
            message += f" Some plugins are not loaded ({listed}). See `aip plugins list`."
        return message

    def get(self, kind: str, name: str) -> PluginRecord:
        """Return the record with this kind and name.

        Raises:
            PluginError: see `entry`.
        """
        return self.entry(kind, name).record

    def canonical(self, kind: str, name: str) -> str:
        """Return the name as spelled by its plugin.

        Raises:
            PluginError: see `entry`.
        """
        return self.get(kind, name).name

    def summary(self, kind: str, name: str) -> str:
        """Return one sentence that describes a plugin.

        Raises:
            PluginError: see `entry`.
        """
        return self.get(kind, name).summary

    def params_class(self, kind: str, name: str) -> type:
        """Return the parameter class of a plugin; for a scenario, that of its class.

        Raises:
            PluginError: see `entry`; or the class cannot be imported or has the wrong base.
        """
        entry = self.entry(kind, name)
        key = kind, entry.record.name
        if key not in self._classes:
            self._classes[key] = self._find_params_class(entry)
        return self._classes[key]

    def _find_params_class(self, entry: Entry) -> type:
        kind = entry.record.kind
        if isinstance(entry.record, ScenarioRecord):
            found: Any = getattr(self.load(entry, entry.record.build), "params_class", None)
        else:
            found = getattr(entry.record, "params", None)
            if isinstance(found, str):
                found = self.load(entry, found)
        base = BASES.get(kind, object)
        # A class without @params has no fields, or only inherited ones.
        if not (isinstance(found, type) and issubclass(found, base) and "__attrs_attrs__" in vars(found)):
            wanted = f" that extends {base.__name__}" if base is not object else ""
            raise PluginError(f"{entry.title} is broken: its parameters must be a @params class{wanted}.")
        return found

    def load_build(self, kind: str, name: str) -> Callable[..., Any]:
        """Import and return the target of a plugin's `build`.

        Raises:
            PluginError: see `entry`; or the target cannot be imported.
        """
        entry = self.entry(kind, name)
        built: Callable[..., Any] = self.load(entry, entry.record.build)
        return built

    def builder(self, kind: str, chosen: Choice[Any]) -> partial[Any]:
        """Return the `build` of a chosen plugin, bound to its parameters; see `chosen_build`."""
        return partial(self.chosen_build(kind, chosen), chosen.params)

    def chosen_build(self, kind: str, chosen: Choice[Any]) -> Callable[..., Any]:
        """Return the `build` of a chosen plugin, whose first argument are the parameters.

        Raises:
            PluginError: see `load_build`; or the parameters belong to another plugin.
        """
        build, cls = self.load_build(kind, chosen.name), self.params_class(kind, chosen.name)
        if not isinstance(chosen.params, cls):
            raise PluginError(
                f"The parameters of the {kind} {chosen.name} are {type(chosen.params).__name__}, not {cls.__name__}. "
                f"Write Choice({chosen.name!r}, {cls.__name__}(...))."
            )
        return build

    def load(self, entry: Entry, reference: str) -> Any:
        """Import and return the target of a plugin's reference.

        Raises:
            PluginError: the target cannot be imported.
        """
        try:
            return import_reference(reference)
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{entry.title} is broken: {reference} cannot be imported ({sentence(error)}). {TRACEBACK}"
            ) from error

    def find_scenario(self, text: str) -> tuple[str, object] | None:
        """Return the name and class of a scenario plugin; None if the name is unknown.

        Raises:
            PluginError: the plugin is broken.
        """
        if not self.has("scenario", text):
            return None
        return self.canonical("scenario", text), self.load_build("scenario", text)


Found = tuple[Callable[[], Any], Plugin]
"""A function that imports a plugin, and the plugin."""


def _broken_file(plugin: Plugin) -> PluginError:
    error = PluginError(f"The plugin file {plugin.source} {plugin.reason}. {TRACEBACK}")
    error.__cause__ = plugin.error
    return error


def _load_all(found: Sequence[Found], switches: Switches) -> list[Plugin]:
    registry = pluggy.PluginManager(PROJECT)
    registry.add_hookspecs(specs)
    wanted: dict[str, list[Plugin]] = {}
    for _, plugin in found:
        if plugin.file is None and not switches.reason_against(plugin):
            wanted.setdefault(normalize(plugin.name), []).append(plugin)
    loaded = []
    for load, plugin in found:
        reason = switches.reason_against(plugin)
        rivals = wanted.get(normalize(plugin.name), []) if plugin.file is None else []
        if reason:
            loaded.append(attrs.evolve(plugin, status="disabled", reason=reason))
        elif len(rivals) > 1 and not plugin.is_own:
            loaded.append(attrs.evolve(plugin, status="broken", reason=_same_entry_point(plugin, rivals)))
        else:
            loaded.append(_load(load, plugin, registry))
    return loaded


def _same_entry_point(plugin: Plugin, rivals: Sequence[Plugin]) -> str:
    others = [rival for rival in rivals if rival is not plugin]
    names = " and ".join(other.source for other in others)
    ways = [f"-p no:{rival.distribution}" for rival in rivals if not rival.is_own]
    return f"has the same entry-point name as {names}: disable one with {one_of(dict.fromkeys(ways))}"


def _load(load: Callable[[], Any], plugin: Plugin, registry: pluggy.PluginManager) -> Plugin:
    started = time.perf_counter()
    records: list[PluginRecord] = []
    try:
        module = import_plugin(load, plugin.module if plugin.file is None else plugin.file.name)
        # Each plugin is alone in the registry while its hooks are called, so that a failure does not affect others.
        registry.register(module, name=f"{plugin.distribution}:{plugin.name}")
        try:
            for hook in HOOKS:
                records += collect(getattr(registry.hook, hook), hook)
        finally:
            registry.unregister(module)
    except Exception as error:
        reason = str(error) if isinstance(error, BrokenPluginError) else f"cannot be registered: {sentence(error)}"
        cause = error.__cause__ or error
        seconds = time.perf_counter() - started
        return attrs.evolve(plugin, status="broken", reason=reason, error=cause, seconds=seconds)
    return attrs.evolve(plugin, records=tuple(records), seconds=time.perf_counter() - started)


_switches = Switches()


def configure_plugins(switches: Switches) -> None:
    """Set the plugins that this process disables, and discard the loaded ones."""
    global _switches  # noqa: PLW0603 - the command line has one say, at the start
    _switches = switches
    get_plugin_manager.cache_clear()


@cache
def get_plugin_manager() -> PluginManager:
    """Return the plugin manager of this process.

    Raises:
        PluginError: see `PluginManager`.
    """
    return PluginManager(_switches)
