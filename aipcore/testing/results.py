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
        unmet: the checks without which this one says nothing and which did not pass; it is skipped then.
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
        """Whether the plugin breaks its contract."""
        return self.status == "failed"

    @property
    def holds_up_others(self) -> bool:
        """Whether checks that need this one say nothing; one that does not apply to a plugin holds up none."""
        return self.status in ("failed", "expected failure") or bool(self.unmet)

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
