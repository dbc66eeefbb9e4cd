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

MODULES = ("basics", "parameters", "optimizers", "schedules", "scenarios", "callbacks", "exporters", "commands")
"""Where the checks are, in the order in which they run."""

WITH_PARAMS = ("optimizer", "schedule", "scenario", "callback", "exporter")
"""The kinds that have parameters."""


@attrs.frozen(kw_only=True)
class ConformanceCheck:
    """One thing that every plugin of some kinds must do.

    Attributes:
        name: unique within a kind.
        kinds: the kinds that it is for.
        summary: one sentence.
        needs: names of checks without which it says nothing: if one of them does not pass, it is skipped.
        light: whether it works without TensorFlow in this process.
        run: returns if the plugin passes; raises `CheckFailedError`, or anything else, if it fails.
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
    """Registers a function as the check of its name for some kinds; its docstring is the summary."""

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
    """The checks of a kind, in the order in which they run."""
    for module in MODULES:
        importlib.import_module(f"aipcore.testing.checks.{module}")
    return tuple(check for check in _CHECKS if kind in check.kinds)


def all_checks() -> dict[str, tuple[ConformanceCheck, ...]]:
    """The checks of every kind."""
    return {kind: checks_of(kind) for kind in KINDS}
