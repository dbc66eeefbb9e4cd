"""The results of conformance checks, and the two exceptions that end a check early."""

from __future__ import annotations

from typing import Any, Literal

import attrs

Status = Literal["passed", "failed", "skipped", "expected failure"]


class CheckFailedError(AssertionError):
    """A failed check. The message is the reason."""


class CheckSkippedError(Exception):
    """A check that does not apply to a plugin. The message is the reason."""


@attrs.frozen(kw_only=True)
class CheckResult:
    """The result of one check of one plugin.

    Attributes:
        kind: kind of the plugin.
        plugin: name of the plugin.
        check: name of the check.
        status: "passed", "failed", "skipped" or "expected failure".
        reason: reason of any status but "passed"; empty otherwise.
        seconds: duration in seconds.
        unmet: prerequisite checks that did not pass; the check is skipped if there are any.
    """

    kind: str
    plugin: str
    check: str
    status: Status
    reason: str = ""
    seconds: float = 0.0
    unmet: tuple[str, ...] = ()

    @property
    def is_failure(self) -> bool:
        """True if the plugin violates the requirement."""
        return self.status == "failed"

    @property
    def holds_up_others(self) -> bool:
        """True if dependent checks must be skipped. A check that does not apply to the plugin does not block others."""
        return self.status in ("failed", "expected failure") or bool(self.unmet)

    def as_json(self) -> dict[str, Any]:
        """Return all fields in JSON types."""
        return attrs.asdict(self)


def require(condition: object, reason: str) -> None:
    """Fail the check if a condition is false.

    Raises:
        CheckFailedError: `condition` is false.
    """
    if not condition:
        raise CheckFailedError(reason)
