"""Checks as pytest tests. Only this module imports pytest."""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from functools import cache
from typing import Any

import attrs
import pytest

from aipcore.hooks.discovery import Entry
from aipcore.hooks.manager import PluginManager, get_plugin_manager
from aipcore.testing.declaration import Declaration
from aipcore.testing.processes import Processes
from aipcore.testing.registry import ConformanceCheck, checks_of
from aipcore.testing.results import CheckResult
from aipcore.testing.runner import declaration, find_entries, run_check


@attrs.frozen(kw_only=True, eq=False)
class BoundCheck:
    """A check of one plugin as a callable test."""

    check: ConformanceCheck
    entry: Entry
    manager: PluginManager
    declared: Declaration
    before: dict[str, CheckResult]

    def __call__(self) -> None:
        """Run the check.

        Raises:
            AssertionError: the plugin fails it.
        """
        __tracebackhide__ = True
        processes = _processes(self.manager)
        result = run_check(self.check, self.entry, self.manager, self.declared, processes, self.before)
        self.before[self.check.name] = result
        if result.status == "skipped":
            pytest.skip(result.reason)
        if result.status == "expected failure":
            pytest.xfail(result.reason)
        if result.is_failure:
            pytest.fail(f"{result.kind} {result.plugin}, {result.check}: {result.reason}", pytrace=False)


def parametrized(name: str, kind: str | None, declared: Mapping[str, Any]) -> pytest.MarkDecorator:
    """Return the mark for `aipcore.testing.parametrize_checks`."""
    manager = get_plugin_manager()
    bound = []
    for entry in find_entries(manager, name, kind):
        told, before = declaration(entry, declared), dict[str, CheckResult]()
        bound += [
            pytest.param(
                BoundCheck(check=check, entry=entry, manager=manager, declared=told, before=before),
                id=f"{entry.record.name}-{check.name}",
            )
            for check in checks_of(entry.record.kind)
        ]
    return pytest.mark.parametrize("check", bound)


@cache
def _processes(manager: PluginManager) -> Processes:
    """Return the subprocesses shared by all tests. They end with this process."""
    processes = Processes([], manager.switches)
    atexit.register(processes.__exit__)
    return processes
