"""Import of plugins, and checks of their hooks and records."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from aipcore.errors import sentence
from aipcore.hooks.discovery import HOOKS, SUFFIX
from aipcore.hooks.records import API_VERSION, PROJECT, PluginRecord, WriterRecord
from aipcore.params.names import nearest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class BrokenPluginError(Exception):
    """A plugin that cannot be used. The message completes a sentence that begins with the plugin."""


def import_plugin(load: Callable[[], Any], target: str) -> Any:
    """Import a plugin, and check its API version and the names of its hooks.

    Args:
        load: imports and returns the module or object with the hooks.
        target: its name, for messages.

    Raises:
        BrokenPluginError: it cannot be imported, targets another API version, or has unknown hooks.
    """
    try:
        plugin = load()
    except BrokenPluginError:
        raise
    except (Exception, SystemExit) as error:
        raise BrokenPluginError(f"cannot be imported: {sentence(error)}") from error
    _check_version(plugin)
    _check_hooks(plugin, target)
    return plugin


def has_hooks(module: ModuleType) -> bool:
    """Return True if a module implements a hook, or has a function that is named like one."""
    return any(
        hasattr(value, f"{PROJECT}_impl") or name in HOOKS
        for name, value in list(vars(module).items())
        if inspect.isroutine(value)
    )


def _check_version(plugin: Any) -> None:
    wanted = getattr(plugin, "AIP_API", API_VERSION)
    if wanted == API_VERSION:
        return
    if not isinstance(wanted, int):
        raise BrokenPluginError(f"has AIP_API = {wanted!r}, which is not a whole number: set it to {API_VERSION}")
    remedy = "upgrade aipcore" if wanted > API_VERSION else "upgrade the plugin"
    raise BrokenPluginError(
        f"targets version {wanted} of the plugin API, but this aip has version {API_VERSION}: {remedy}"
    )


def _check_hooks(plugin: Any, target: str) -> None:
    unmarked: list[str] = []
    found = False
    # Only the module's own attributes: a lookup of lazy attributes could import anything.
    names = list(vars(plugin)) if isinstance(plugin, ModuleType) else dir(plugin)
    for name in names:
        routine = getattr(plugin, name, None)
        if not inspect.isroutine(routine):
            continue
        marker = getattr(routine, f"{PROJECT}_impl", None)
        if marker is None:
            if name.startswith(f"{PROJECT}_"):
                unmarked.append(name)
            continue
        found = True
        hook = marker["specname"] or name
        if hook not in HOOKS:
            raise BrokenPluginError(f"implements the unknown hook {hook}; {_meant(hook)}")
    for name in unmarked:
        if name in HOOKS:
            raise BrokenPluginError(f"does not mark its function {name} as a hook: decorate it with @hookimpl")
    if not found:
        like = [name for name in unmarked if nearest(name, HOOKS)]
        hint = f"{like[0]} is not a hook; {_meant(like[0])}" if like else f"define one of {', '.join(HOOKS)}"
        raise BrokenPluginError(f"implements no hook in {target}: {hint}")


def _meant(hook: str) -> str:
    near = nearest(hook, HOOKS)
    return f"did you mean {near[0]}?" if near else f"available: {', '.join(HOOKS)}"


def collect(call: Callable[[], list[Any]], hook: str) -> list[PluginRecord]:
    """Return the records from one hook of one plugin.

    Args:
        call: function that calls the implementations and returns the list of their results.
        hook: name of the hook.

    Raises:
        BrokenPluginError: the hook raises, or returns anything but valid records.
    """
    records: list[PluginRecord] = []
    try:
        for given in call():
            records.extend(_records(hook, given))
    except BrokenPluginError:
        raise
    except (Exception, SystemExit) as error:
        raise BrokenPluginError(f"fails in its hook {hook}: {sentence(error)}") from error
    return records


def _records(hook: str, given: Any) -> list[PluginRecord]:
    wanted = HOOKS[hook]
    if not isinstance(given, Iterable):
        raise BrokenPluginError(f"returns {_kind_of(given)} from {hook}, which must return a list of {wanted.__name__}")
    records = list(given)
    for record in records:
        if not isinstance(record, wanted):
            raise BrokenPluginError(
                f"returns a list with {_kind_of(record)} from {hook}, which must return a list of {wanted.__name__}"
            )
        _check_record(record)
    return records


def _check_record(record: PluginRecord) -> None:
    what = f"registers the {record.kind} {record.name!r}"
    if not (isinstance(record.name, str) and NAME.fullmatch(record.name)):
        raise BrokenPluginError(f"{what}, whose name may contain only letters, digits, - and _")
    if not (isinstance(record.summary, str) and record.summary.strip()):
        raise BrokenPluginError(f"{what} without a summary: describe it in one sentence")
    if isinstance(record, WriterRecord) and not (isinstance(record.suffix, str) and SUFFIX.fullmatch(record.suffix)):
        raise BrokenPluginError(f"{what} with suffix={record.suffix!r}: it must be the end of a file name, as in .csv")
    references = {"build": record.build}
    # Not every kind has parameters.
    params = getattr(record, "params", record.build)
    if not isinstance(params, type):
        references["params"] = params
    load = getattr(record, "load", None)
    if load is not None:
        references["load"] = load
    for field, reference in references.items():
        if isinstance(reference, str) and "<" in reference:
            raise BrokenPluginError(
                f"{what} with {field}={reference.partition(':')[2]}, which has no name in its module: define it at the "
                "top level"
            )
        if not (isinstance(reference, str) and REFERENCE.fullmatch(reference)):
            raise BrokenPluginError(f'{what} with {field}={reference!r}: it must have the form "module:attribute"')


def _kind_of(value: Any) -> str:
    if value is None:
        return "None"
    article = "an" if type(value).__name__[0] in "AEIOUaeiou" else "a"
    return f"{article} {type(value).__name__}"
