"""The console through which all commands write to the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from rich.console import Console as RichConsole
from rich.segment import Segment

from aipcore.params.names import escaped

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderableType


class Console(RichConsole):
    """Rich console that escapes control characters in names and paths, also in pipes."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render like Rich, with escaped text. Rich's own control codes pass through."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(escaped(segment.text), segment.style)


def html_table(rows: Iterable[Sequence[str]], head: Sequence[str] = ()) -> str:
    """Return a table for notebooks. Without a head, the first column holds the headings of the rows."""
    lines = [f"<tr>{''.join(f'<th>{escape(text)}</th>' for text in head)}</tr>"] if head else []
    for first, *rest in rows:
        kind = "td" if head else "th"
        cells = "".join(f'<td style="text-align: left">{escape(text)}</td>' for text in rest)
        lines.append(f'<tr><{kind} style="text-align: left">{escape(first)}</{kind}>{cells}</tr>')
    return f"<table>{''.join(lines)}</table>"
