"""How the help of commands looks: click's layout, with the colours of the rest of aip where there is a terminal."""

from __future__ import annotations

import os
from collections.abc import Iterable

import click

from aipcore.params.names import escaped
from aipcore.params.secret import redacted


class StyledFormatter(click.HelpFormatter):
    """Headings in bold, what can be typed in cyan; click drops the colours when nobody can see them."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """The line that shows how a command is written."""
        super().write_usage(click.style(prog, bold=True), args, prefix)

    def write_heading(self, heading: str) -> None:
        """The heading of a section."""
        super().write_heading(click.style(heading, bold=True))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Names and what they mean, in two columns."""
        super().write_dl([(click.style(name, fg="cyan"), text) for name, text in rows], col_max, col_spacing)


class StyledContext(click.Context):
    """A context whose help is styled."""

    formatter_class = StyledFormatter


class Command(click.Command):
    """A command of aip."""

    context_class = StyledContext


class Group(click.Group):
    """A group of commands of aip."""

    context_class = StyledContext
    command_class = Command


_prefix = ""


def prefix_reports(text: str) -> None:
    """From now on sentences on the error output begin with `text`, which says whose they are."""
    global _prefix  # noqa: PLW0603 - who reports an error does not know that there are several processes
    _prefix = text


def report(label: str, message: str) -> None:
    """Writes one sentence to the error output, its label in red where there is a terminal."""
    click.echo(
        f"{_prefix}{click.style(f'{label}:', fg='red', bold=True)} {escaped(redacted(message))}",
        err=True,
        color=color_wanted(),
    )


def echo(text: str) -> None:
    """Write a line to the output, in which control characters are shown and not obeyed."""
    click.echo(escaped(text))


def color_wanted() -> bool | None:
    """False where the environment asks for no colours (no-color.org), else None: click looks for a terminal."""
    return False if os.environ.get("NO_COLOR") else None
