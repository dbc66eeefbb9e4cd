"""The table of a warm start as lines of text."""

from __future__ import annotations

from collections.abc import Sequence

from aipcore.training.warmstart.matching import Row

MOST_ROWS = 40
"""The most rows that the terminal shows in full; the log file always has all rows."""

HEADINGS = ("variable", "taken from", "shape", "status")


def warm_start_lines(rows: Sequence[Row], *, brief: bool = False) -> list[str]:
    """Return the headings and one line for each variable.

    Args:
        rows: the variables.
        brief: if True, show only the counts of variables that were loaded under their own names, and of those that
            exist only in the file.
    """
    counted = [row for row in rows if brief and (row.status == "loaded" or not row.path)]
    cells = [HEADINGS, *(_cells(row) for row in rows if row not in counted)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    loaded = sum(bool(row.path) for row in counted)
    if loaded:
        lines.append(f"and {loaded:,} loaded under the same name")
    if len(counted) > loaded:
        lines.append(f"and {len(counted) - loaded:,} in the file only")
    return lines if len(lines) > 1 or not brief else []


def _cells(row: Row) -> tuple[str, str, str, str]:
    shape, there = _shape(row.shape), row.source_shape
    if row.status in ("shape mismatch", "adapted") and there is not None and there != row.shape:
        shape = f"{shape}, in the file {_shape(there)}"
    source = "same" if row.source == row.path else row.source or "-"
    status = row.status if row.adapted is None else f"{row.status}, {row.adapted[0]:,} of {row.adapted[1]:,}"
    return row.path or "not in this model", source, shape, status


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
