"""The checks of each kind of plugin, by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import attrs

from aipcore.hooks.discovery import KINDS

if TYPE_CHECKING:
    from aipcore.testing.subject import Subject

    CheckFunction = Callable[[Subject], None]

MODULES = (
    "basics",
    "parameters",
    "optimizers",
    "schedules",
    "scenarios",
    "callbacks",
    "exporters",
    "writers",
    "commands",
)
"""The modules with the checks, in execution order."""

WITH_PARAMS = ("optimizer", "schedule", "scenario", "callback", "exporter")
"""The kinds with parameters."""


@attrs.frozen(kw_only=True)
class ConformanceCheck:
    """A single requirement for plugins of some kinds.

    Attributes:
        name: unique name within a kind.
        kinds: kinds that the check applies to.
        summary: one sentence.
        needs: names of prerequisite checks. If one of them does not pass, this check is skipped.
        light: True if the check runs without TensorFlow in this process.
        run: function that returns if the plugin passes, and raises `CheckFailedError` or another exception if it fails.
    """

    name: str
    kinds: tuple[str, ...]
    summary: str
    needs: tuple[str, ...]
    light: bool
    run: CheckFunction


_CHECKS: list[ConformanceCheck] = []


def conformance_check(
    *kinds: str, needs: tuple[str, ...] = (), light: bool = False
) -> Callable[[CheckFunction], CheckFunction]:
    """Register a function as a check for some kinds. Its name and docstring become the name and summary."""

    def register(function: CheckFunction) -> CheckFunction:
        summary = (function.__doc__ or "").strip()
        _CHECKS.append(
            ConformanceCheck(
                name=function.__name__, kinds=kinds, summary=summary, needs=needs, light=light, run=function
            )
        )
        return function

    return register


@cache
def checks_of(kind: str) -> tuple[ConformanceCheck, ...]:
    """Return the checks of a kind in execution order."""
    for module in MODULES:
        importlib.import_module(f"aipcore.testing.checks.{module}")
    return tuple(check for check in _CHECKS if kind in check.kinds)


def all_checks() -> dict[str, tuple[ConformanceCheck, ...]]:
    """Return the checks of every kind."""
    return {kind: checks_of(kind) for kind in KINDS}
