"""Names and texts in two columns, under headings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs
from rich.console import Console
from rich.text import Text

WIDEST = 30
"""Maximum width of the column of names. A longer name has a line of its own."""


@attrs.frozen
class Row:
    """A name and a text beside it, in two columns.

    Attributes:
        column: width of the first column; 0 for that of the other rows.
    """

    name: Text
    text: Text
    column: int = 0


def show_sections(console: Console, found: Sequence[tuple[str, list[Row]]], column: int | None = None) -> None:
    """Print headings with the rows below them, in columns of the same width. A heading without rows is omitted."""
    column = column or column_width(row for _, rows in found for row in rows)
    for heading, rows in found:
        if rows:
            console.print(Text(heading, "bold"))
            show_rows(console, rows, column)
            console.print()


def column_width(rows: Iterable[Row]) -> int:
    """Return the width of the column of names, with its margins."""
    widths = [row.name.cell_len for row in rows if not row.column]
    return max((width for width in widths if width <= WIDEST), default=WIDEST) + 4


def show_rows(console: Console, rows: Sequence[Row], column: int | None = None) -> None:
    """Print names and texts in two columns. Names are never broken: a long one has a line of its own."""
    column = column or column_width(rows)
    lines = []
    for row in rows:
        margin = row.column or column
        left = Text("  ").append_text(row.name)
        if left.cell_len > margin - 2:
            lines.append(left)
            left = Text()
        for line in row.text.wrap(console, max(console.width - margin, 20)):
            line.rstrip()
            left.pad_right(margin - left.cell_len)
            lines.append(left.append_text(line))
            left = Text()
    if lines:
        # Each call takes about a millisecond.
        console.print(Text("\n").join(lines), soft_wrap=True)
