"""Limits: accepted values and descriptions."""

from __future__ import annotations

from typing import Any

import pytest

from aipcore.params import Check, above, at_least, between, fraction, regex

CASES: list[tuple[Check, str, list[Any], list[Any]]] = [
    (at_least(1), "at least 1", [1, 2, 1.0], [0, -1, 0.999]),
    (at_least(0.5), "at least 0.5", [0.5, 1], [0.49]),
    (above(0), "above 0", [1e-300, 1], [0, 0.0, -1]),
    (between(0, 1), "from 0 to 1", [0, 1, 0.5], [-1e-9, 1.0000001]),
    (fraction(), "at least 0 and below 1", [0, 0.999], [1, -0.1]),
    (regex(), "a valid regular expression", ["", "a.*b", r"\d"], ["(", "[", "*"]),
]


@pytest.mark.parametrize(("check", "allowed", "good", "bad"), CASES, ids=lambda case: getattr(case, "allowed", ""))
def test_limits(check: Check, allowed: str, good: list[Any], bad: list[Any]) -> None:
    """Each limit accepts the values on its edge that it names, and no others."""
    assert check.allowed == allowed
    assert [value for value in good if not check.accepts(value)] == []
    assert [value for value in bad if check.accepts(value)] == []


def test_none_is_always_allowed() -> None:
    """Limits accept None; the type decides if a value is required."""
    assert at_least(1).accepts(None)


def test_every_item_counts() -> None:
    """Tuples and tables satisfy a limit if all their values do."""
    assert at_least(1).accepts((1, 2))
    assert at_least(1).accepts(())
    assert not at_least(1).accepts((1, 0))
    assert at_least(1).accepts({"a": 1})
    assert not at_least(1).accepts({"a": 1, "b": 0})


def test_own_check() -> None:
    """A custom limit is a description and a test."""
    even = Check("even", lambda value: value % 2 == 0)
    assert even.accepts((2, 4))
    assert not even.accepts(3)
