"""The terminal as every command writes to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console as RichConsole
from rich.segment import Segment

from aipcore.params.names import escaped

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderableType


class Console(RichConsole):
    """Rich's console, on which control characters of names and paths are shown and not obeyed, in pipes too."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as Rich does, with escaped text. Rich's own control codes are not text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(escaped(segment.text), segment.style)
