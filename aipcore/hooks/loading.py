"""What is checked of a plugin before it counts, so that one that is wrong harms no other and says what is wrong."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

from aipcore.errors import sentence
from aipcore.hooks.markers import API_VERSION, PROJECT
from aipcore.hooks.records import RECORD_TYPES, PluginRecord
from aipcore.params.names import nearest

HOOKS: dict[str, type[PluginRecord]] = {f"{PROJECT}_{record.kind}s": record for record in RECORD_TYPES}
"""From each hook to the class of the records it collects."""

KINDS: tuple[str, ...] = tuple(record.kind for record in RECORD_TYPES)
"""The kinds of plugins, in the order in which they are listed."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class BrokenPluginError(Exception):
    """Why a plugin cannot be used, as the end of a sentence that begins with the plugin."""


def import_plugin(point: EntryPoint) -> Any:
    """What the entry point names, checked as a whole: its API version and the names of its hooks.

    Raises:
        BrokenPluginError: it cannot be imported, is made for another API, or has hooks that aip does not know.
    """
    try:
        plugin = point.load()
    except (Exception, SystemExit) as error:
        raise BrokenPluginError(f"cannot be imported: {sentence(error)}") from error
    _check_version(plugin)
    _check_hooks(plugin, point.value)
    return plugin


def _check_version(plugin: Any) -> None:
    wanted = getattr(plugin, "AIP_API", API_VERSION)
    if wanted == API_VERSION:
        return
    if not isinstance(wanted, int):
        raise BrokenPluginError(f"has AIP_API = {wanted!r}: it must be a whole number, now {API_VERSION}")
    remedy = "upgrade aipcore" if wanted > API_VERSION else "upgrade the plugin"
    raise BrokenPluginError(f"is made for version {wanted} of the plugin API, this aip has {API_VERSION}: {remedy}")


def _check_hooks(plugin: Any, target: str) -> None:
    unmarked: list[str] = []
    found = False
    # Of a module, only what is in it: to ask for names that it makes on demand could import anything.
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
            raise BrokenPluginError(f"does not mark its function {name}: put @hookimpl above it")
    if not found:
        like = [name for name in unmarked if nearest(name, HOOKS)]
        hint = f"its function {like[0]} is none, {_meant(like[0])}" if like else f"define one of {', '.join(HOOKS)}"
        raise BrokenPluginError(f"implements no hook in {target}: {hint}")


def _meant(hook: str) -> str:
    near = nearest(hook, HOOKS)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(HOOKS)}"


def collect(call: Callable[[], list[Any]], hook: str) -> list[PluginRecord]:
    """The records that one hook of one plugin returns.

    Args:
        call: calls the implementations and returns the list of their results.
        hook: its name.

    Raises:
        BrokenPluginError: the hook raises, or returns something else than valid records.
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
        raise BrokenPluginError(f"{what}, whose name must be of letters, digits, - and _")
    if not (isinstance(record.summary, str) and record.summary.strip()):
        raise BrokenPluginError(f"{what} without a summary: say in one sentence what it does")
    references = {"build": record.build}
    # Not every kind has parameters of its own.
    params = getattr(record, "params", record.build)
    if not isinstance(params, type):
        references["params"] = params
    load = getattr(record, "load", None)
    if load is not None:
        references["load"] = load
    for field, reference in references.items():
        if not (isinstance(reference, str) and REFERENCE.fullmatch(reference)):
            raise BrokenPluginError(f'{what} with {field}={reference!r}: it must be of the form "module:attribute"')


def _kind_of(value: Any) -> str:
    if value is None:
        return "None"
    article = "an" if type(value).__name__[0] in "AEIOUaeiou" else "a"
    return f"{article} {type(value).__name__}"
