"""The conformance kit: named checks for every plugin of a kind.

`aip plugins check NAME` runs them without a test suite. In a test suite, use the decorator::

    from aipcore.testing import parametrize_checks

    @parametrize_checks("SignSGD")
    def test_conformance(check):
        check()
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aipcore.testing.declaration import Declaration, GoldenSteps
from aipcore.testing.registry import ConformanceCheck, all_checks, checks_of
from aipcore.testing.results import CheckResult
from aipcore.testing.runner import run_checks

if TYPE_CHECKING:
    import pytest

__all__ = [
    "CheckResult",
    "ConformanceCheck",
    "Declaration",
    "GoldenSteps",
    "all_checks",
    "checks_of",
    "parametrize_checks",
    "run_checks",
]


def parametrize_checks(
    name: str, *, kind: str | None = None, expected_failures: Mapping[str, str] | None = None, **declared: Any
) -> pytest.MarkDecorator:
    """Parametrize a test function with the argument `check`: one test for each check of a plugin.

    The function calls `check()`, which raises an error with the reason if the plugin fails. Checks that are skipped or
    expected to fail become skips and xfails in pytest.

    Args:
        name: name of an installed plugin.
        kind: kind of the plugin, if several kinds have a plugin with that name.
        expected_failures: from the name of a check to the reason why the plugin fails it.
        declared: other fields of `Declaration`.

    Raises:
        PluginError: the plugin or a check does not exist.
    """
    from aipcore.testing.pytest_checks import parametrized

    given = dict(declared)
    if expected_failures is not None:
        given["expected_failures"] = expected_failures
    return parametrized(name, kind, given)
