"""Execution of checks and collection of their results."""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from aipcore.errors import PluginError
from aipcore.hooks.discovery import KINDS, Entry
from aipcore.hooks.manager import PluginManager, get_plugin_manager
from aipcore.params.names import nearest, normalize, one_of
from aipcore.testing.declaration import Declaration, declared_for
from aipcore.testing.processes import Processes
from aipcore.testing.registry import ConformanceCheck, checks_of
from aipcore.testing.results import CheckResult, CheckSkippedError, Status
from aipcore.testing.subject import Subject


def find_entries(manager: PluginManager, name: str, kind: str | None = None) -> list[Entry]:
    """Return the plugins with a name, or all plugins of the entry point with this name.

    Raises:
        PluginError: the name is unknown, or the plugin cannot be used.
    """
    kinds = [each for each in KINDS if kind in (None, each)]
    named = [manager.entry(each, name) for each in kinds if manager.has(each, name)]
    if named:
        return named
    points = [plugin for plugin in manager.plugins if normalize(plugin.name) == normalize(name)]
    found = [entry for entry in manager.entries if entry.plugin in points and entry.record.kind in kinds]
    if found:
        return [manager.entry(entry.record.kind, entry.record.name) for entry in found]
    for plugin in points:
        if plugin.status != "ok":
            raise PluginError(f"The plugin {plugin.name} of {plugin.source} {plugin.reason}.")
    near = nearest(name, [entry.record.name for entry in manager.entries if entry.record.kind in kinds])
    hint = f"did you mean {one_of(near)}?" if near else "`aip plugins list` shows all plugins."
    raise PluginError(f"There is no {kind or 'plugin'} {name!r}; {hint}")


def run_checks(
    entries: Sequence[Entry],
    *,
    manager: PluginManager | None = None,
    declared: Mapping[str, Any] | None = None,
) -> Iterator[CheckResult]:
    """Run all checks of some plugins, one after another, and yield each result immediately.

    Args:
        entries: plugins to check.
        manager: plugin manager; by default that of this process.
        declared: fields of `Declaration` that override those of the plugins' modules.

    Raises:
        PluginError: a declared name does not exist.
    """
    manager = manager or get_plugin_manager()
    told = [(entry, declaration(entry, declared)) for entry in entries]
    plugins = [(entry.record.kind, entry.record.name) for entry in entries]
    with Processes(plugins, manager.switches) as processes:
        for entry, each in told:
            before: dict[str, CheckResult] = {}
            for check in checks_of(entry.record.kind):
                result = run_check(check, entry, manager, each, processes, before)
                before[check.name] = result
                yield result


def declaration(entry: Entry, given: Mapping[str, Any] | None = None) -> Declaration:
    """Return the declaration of a plugin.

    Raises:
        PluginError: a declared name does not exist.
    """
    declared = declared_for(entry, given)
    names = [check.name for check in checks_of(entry.record.kind)]
    for name in declared.expected_failures:
        if name not in names:
            near = nearest(name, names)
            hint = f"did you mean {one_of(near)}?" if near else f"available: {', '.join(names)}."
            raise PluginError(
                f"{entry.title} is expected to fail {name!r}, which is not a check of the kind "
                f"{entry.record.kind}; {hint}"
            )
    return declared


def run_check(
    check: ConformanceCheck,
    entry: Entry,
    manager: PluginManager,
    declared: Declaration,
    processes: Processes,
    before: Mapping[str, CheckResult] | None = None,
) -> CheckResult:
    """Run one check.

    Args:
        check: check to run.
        entry: plugin to check.
        manager: plugin manager.
        declared: declaration of the plugin.
        processes: shared subprocesses.
        before: results of earlier checks. A check is skipped if a prerequisite did not pass.
    """
    if not check.light:
        _load_tensorflow()
    started = time.perf_counter()
    status: Status = "passed"
    reason = ""
    known = before or {}
    unmet = tuple(name for name in check.needs if name in known and known[name].holds_up_others)
    if unmet:
        status, reason = "skipped", f"it needs {one_of(unmet)}, which did not pass"
    else:
        status, reason = _outcome(check, entry, manager, declared, processes)
    expected = declared.expected_failures.get(check.name)
    if expected is not None and status == "failed":
        status, reason = "expected failure", expected
    elif expected is not None and status == "passed":
        status, reason = "failed", f"it passes, but was expected to fail ({expected}): remove it from expected_failures"
    return CheckResult(
        kind=entry.record.kind,
        plugin=entry.record.name,
        check=check.name,
        status=status,
        reason=reason,
        seconds=time.perf_counter() - started,
        unmet=unmet,
    )


def _load_tensorflow() -> None:
    """Import TensorFlow before a check, so that the import does not count towards its duration."""
    from aipcore.start_tensorflow import import_tensorflow

    if "tensorflow" not in sys.modules:
        import_tensorflow()
    importlib.import_module("aipcore.testing.isolation")


def _outcome(
    check: ConformanceCheck, entry: Entry, manager: PluginManager, declared: Declaration, processes: Processes
) -> tuple[Status, str]:
    quieten: Callable[[], AbstractContextManager[None]] = nullcontext
    if not check.light:
        from aipcore.testing.isolation import quiet, start_anew

        start_anew()
        quieten = quiet
    with tempfile.TemporaryDirectory(prefix="aip-check-") as folder, quieten():
        subject = Subject(entry, manager, declared, processes, Path(folder))
        try:
            check.run(subject)
        except CheckSkippedError as reason:
            return "skipped", str(reason)
        except AssertionError as reason:
            return "failed", str(reason) or "an assertion failed"
        except (Exception, SystemExit) as error:
            return "failed", f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
    return "passed", ""
