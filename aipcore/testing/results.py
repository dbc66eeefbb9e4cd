"""What a conformance check says: results, and the two ways in which a check ends early."""

from __future__ import annotations

from typing import Any, Literal

import attrs

Status = Literal["passed", "failed", "skipped", "expected failure"]


class CheckFailedError(AssertionError):
    """A plugin does not do what a check asks of it; the message is the reason."""


class CheckSkippedError(Exception):
    """A check does not apply to a plugin; the message is the reason."""


@attrs.frozen(kw_only=True)
class CheckResult:
    """What became of one check of one plugin.

    Attributes:
        kind: of the plugin.
        plugin: its name.
        check: the name of the check.
        status: "passed", "failed", "skipped" or "expected failure".
        reason: why it did not pass; empty if it did.
        seconds: that the check took.
    """

    kind: str
    plugin: str
    check: str
    status: Status
    reason: str = ""
    seconds: float = 0.0

    @property
    def is_failure(self) -> bool:
        """Whether the plugin breaks its contract."""
        return self.status == "failed"

    def as_json(self) -> dict[str, Any]:
        """All of it, in JSON's types."""
        return attrs.asdict(self)


def require(condition: object, reason: str) -> None:
    """Ends a check that does not hold.

    Raises:
        CheckFailedError: `condition` is false.
    """
    if not condition:
        raise CheckFailedError(reason)
