"""Limits of parameter values. Each limit describes in words which values it allows."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import attrs


@attrs.frozen
class Check:
    """A limit of a parameter value.

    Attributes:
        allowed: the end of the sentence "it must be ...", e.g. "at least 1".
        test: predicate for a single value. `accepts` handles None, and the items of tuples and tables.
    """

    allowed: str
    test: Callable[[Any], bool]

    def accepts(self, value: Any) -> bool:
        """Return True if `value` is allowed. None always is; items and table values are tested one by one."""
        if value is None:
            return True
        if isinstance(value, tuple):
            return all(self.accepts(item) for item in value)
        if isinstance(value, dict):
            return all(self.accepts(item) for item in value.values())
        return self.test(value)


@attrs.frozen
class WholeCheck(Check):
    """A limit of a whole tuple or table, rather than of each item."""

    def accepts(self, value: Any) -> bool:
        """Return True if `value` is allowed. None always is."""
        return value is None or self.test(value)


def at_least(low: float) -> Check:
    """Allow `value >= low`."""
    return Check(f"at least {low}", lambda value: bool(value >= low))


def above(low: float) -> Check:
    """Allow `value > low`."""
    return Check(f"above {low}", lambda value: bool(value > low))


def between(low: float, high: float) -> Check:
    """Allow `low <= value <= high`."""
    return Check(f"from {low} to {high}", lambda value: bool(low <= value <= high))


def fraction() -> Check:
    """Allow `0 <= value < 1`, the range of decay rates such as Adam's betas."""
    return Check("at least 0 and below 1", lambda value: bool(0 <= value < 1))


def positions() -> WholeCheck:
    """Allow a first and a last position, counted from 1: `(10, 20)`."""
    return WholeCheck("in ascending order and at least 1", lambda pair: 1 <= pair[0] <= pair[1])


def regex() -> Check:
    """Allow strings that compile as a Python regular expression."""
    return Check("a valid regular expression", _compiles)


def _compiles(value: str) -> bool:
    try:
        re.compile(value)
    except re.error:
        return False
    return True
