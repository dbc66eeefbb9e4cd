"""The console through which all commands write to the terminal."""

from __future__ import annotations

from collections.abc import Iterable
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
