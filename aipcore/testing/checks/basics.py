"""Checks of all kinds of plugins: cheap discovery and a valid summary."""

from __future__ import annotations

from aipcore.hooks.discovery import KINDS
from aipcore.testing.registry import conformance_check
from aipcore.testing.results import require
from aipcore.testing.subject import Subject


@conformance_check(*KINDS, light=True)
def discovered_without_tensorflow(subject: Subject) -> None:
    """Looking up the plugin and its parameters does not import TensorFlow, Keras, NumPy or grain."""
    answer = subject.processes.light(subject.kind, subject.name)
    require(not answer["error"], answer["error"])
    record = subject.entry.record
    what = getattr(record, "params", record.build)
    require(
        not answer["heavy"],
        f"looking up {what} imports {', '.join(answer['heavy'])}: import it inside the functions that need it",
    )


@conformance_check(*KINDS, light=True)
def says_what_it_is(subject: Subject) -> None:
    """The summary is a sentence of at most 120 characters that ends with a full stop."""
    summary = subject.entry.record.summary
    require(summary.strip() == summary != "", f"the summary is {summary!r}: describe the plugin in one sentence")
    require("\n" not in summary and len(summary) <= 120, "the summary is longer than one line of 120 characters")
    require(summary.endswith("."), f"the summary {summary!r} does not end with a full stop")
