"""What a warm start did, for whoever reports it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import attrs

from aipcore.params.names import count

Status = Literal["loaded", "renamed", "skipped", "missing", "shape mismatch"]


@attrs.frozen(kw_only=True)
class Row:
    """One variable.

    Attributes:
        path: its path in this model; empty if it is only in the file.
        source: its name in the file; empty if the file has none for it.
        shape: its shape in this model, or in the file if it is only there.
        source_shape: the shape in the file, None without a source.
        status: `loaded` under its own name, `renamed` by a rule or because its layer has another number here;
            `skipped` as `include` and `exclude` have it, or because this model has no such variable; `missing` in the
            file; `shape mismatch`.
    """

    path: str
    source: str
    shape: tuple[int, ...]
    source_shape: tuple[int, ...] | None
    status: Status


@attrs.frozen(kw_only=True)
class WarmStart:
    """A warm start that was done.

    Attributes:
        path: what the weights were taken from: the very file or folder.
        kind: what that is, such as "checkpoint".
        rows: this model's variables in their order, then what else the file has.
    """

    path: Path
    kind: str
    rows: Sequence[Row]

    def summary(self) -> str:
        """One line: how many of the model's variables were loaded, and what became of the others."""
        counts = Counter(row.status for row in self.rows if row.path)
        loaded = counts["loaded"] + counts["renamed"]
        parts = [f"{loaded:,} of {count(sum(counts.values()), 'variable')} loaded"]
        if counts["renamed"]:
            parts.append(f"{counts['renamed']:,} of them renamed")
        others: tuple[Status, ...] = ("skipped", "missing", "shape mismatch")
        parts += [f"{counts[status]:,} {status}" for status in others if counts[status]]
        unused = sum(not row.path for row in self.rows)
        if unused:
            parts.append(f"{unused:,} there not used")
        return f"{self.path} ({self.kind}): {', '.join(parts)}"
