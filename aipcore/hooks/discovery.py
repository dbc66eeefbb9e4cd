"""Finding the entry points of installed plugins, and loading them one at a time so that none can harm another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Literal

import attrs
import pluggy

from aipcore.hooks import specs
from aipcore.hooks.markers import API_VERSION, PROJECT
from aipcore.hooks.records import RECORD_TYPES, PluginRecord
from aipcore.params.names import nearest, normalize

OWN_DISTRIBUTION = "aipcore"

HOOKS: dict[str, type[PluginRecord]] = {f"{PROJECT}_{kind.kind}s": kind for kind in RECORD_TYPES}
"""From each hook to the records it collects."""

Status = Literal["ok", "disabled", "broken"]


@attrs.frozen(kw_only=True)
class Plugin:
    """One entry point and what became of it.

    Attributes:
        name: of the entry point; what `-p no:NAME` takes.
        module: what it names.
        distribution: the installed package it belongs to.
        version: of that package.
        status: whether it was loaded.
        reason: why it is disabled or broken.
        seconds: that loading took.
        records: what it registered.
    """

    name: str
    module: str
    distribution: str
    version: str
    status: Status = "ok"
    reason: str = ""
    seconds: float = 0.0
    records: tuple[PluginRecord, ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether it comes with aip."""
        return normalize(self.distribution) == OWN_DISTRIBUTION

    @property
    def source(self) -> str:
        """Distribution and version, for messages."""
        return f"{self.distribution} {self.version}"


class _Broken(Exception):
    """Why a plugin cannot be used."""


def installed(path: list[str] | None = None) -> list[tuple[EntryPoint, Plugin]]:
    """All entry points of the group `aip`, ours first, then by distribution and name.

    Of two copies of one distribution the first on the path counts.

    Args:
        path: where to look; by default `sys.path`.
    """
    if path is None:
        found = list(entry_points(group=PROJECT))
    else:
        from importlib.metadata import distributions

        found, seen = [], set()
        for distribution in distributions(path=path):
            if normalize(distribution.name) not in seen:
                seen.add(normalize(distribution.name))
                found.extend(distribution.entry_points.select(group=PROJECT))
    pairs = [(point, _unloaded(point)) for point in found]
    pairs.sort(key=lambda pair: (not pair[1].is_own, normalize(pair[1].distribution), pair[1].name))
    return pairs


def _unloaded(point: EntryPoint) -> Plugin:
    distribution = point.dist
    return Plugin(
        name=point.name,
        module=point.value,
        distribution=distribution.name if distribution else "unknown",
        version=distribution.version if distribution else "unknown",
    )


def load(point: EntryPoint, plugin: Plugin, registry: pluggy.PluginManager) -> Plugin:
    """Imports a plugin and collects its records; whatever goes wrong becomes the reason of a broken one."""
    started = time.perf_counter()
    try:
        module = _import(point)
        _check_version(module)
        _check_hooks(module)
        records = _collect(module, plugin, registry)
    except _Broken as error:
        return attrs.evolve(plugin, status="broken", reason=str(error), seconds=time.perf_counter() - started)
    return attrs.evolve(plugin, records=records, seconds=time.perf_counter() - started)


def _import(point: EntryPoint) -> Any:
    try:
        return point.load()
    except (Exception, SystemExit) as error:
        raise _Broken(f"it cannot be imported: {_sentence(error)}") from error


def _check_version(module: Any) -> None:
    wanted = getattr(module, "AIP_API", API_VERSION)
    if wanted != API_VERSION:
        raise _Broken(
            f"it is made for version {wanted} of aip's plugin API, this aip has version {API_VERSION}: "
            f"{'upgrade aipcore' if isinstance(wanted, int) and wanted > API_VERSION else 'upgrade the plugin'}"
        )


def _check_hooks(module: Any) -> None:
    marked = f"{PROJECT}_impl"
    found = False
    for name in dir(module):
        value = getattr(module, name, None)
        if hasattr(value, marked):
            found = True
            hook = getattr(value, marked)["specname"] or name
            if hook not in HOOKS:
                near = nearest(hook, HOOKS)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(HOOKS)}"
                raise _Broken(f"it implements the unknown hook {hook}; {hint}")
        elif name in HOOKS and callable(value):
            raise _Broken(f"its function {name} is not marked: put @hookimpl above it")
    if not found:
        what = module.__name__ if isinstance(module, ModuleType) else type(module).__name__
        raise _Broken(f"{what} implements no hook: define one of {', '.join(HOOKS)} with @hookimpl")


def _collect(module: Any, plugin: Plugin, registry: pluggy.PluginManager) -> tuple[PluginRecord, ...]:
    name = f"{plugin.distribution}:{plugin.name}"
    try:
        registry.register(module, name=name)
    except (ValueError, pluggy.PluginValidationError) as error:
        raise _Broken(f"it cannot be registered: {_sentence(error)}") from error
    records: list[PluginRecord] = []
    for hook, kind in HOOKS.items():
        for implementation in getattr(registry.hook, hook).get_hookimpls():
            if implementation.plugin_name == name:
                records.extend(_checked(hook, kind, implementation.function))
    return tuple(records)


def _checked(hook: str, kind: type[PluginRecord], function: Callable[[], Iterable[Any]]) -> list[PluginRecord]:
    try:
        given = list(function())
    except Exception as error:
        raise _Broken(f"its hook {hook} failed: {_sentence(error)}") from error
    for record in given:
        if not isinstance(record, kind):
            raise _Broken(f"its hook {hook} returned {type(record).__name__}, it must return {kind.__name__} records")
        if not isinstance(record.name, str) or not record.name.replace("-", "").replace("_", "").isalnum():
            raise _Broken(f"its hook {hook} named a plugin {record.name!r}: use letters, digits, - and _")
    return given


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def new_registry() -> pluggy.PluginManager:
    """An empty pluggy manager that knows aip's hooks."""
    registry = pluggy.PluginManager(PROJECT)
    registry.add_hookspecs(specs)
    return registry
