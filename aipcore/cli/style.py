"""The style of `--help`: click's layout with aip's colours on terminals."""

from __future__ import annotations

import os
from collections.abc import Iterable

import click

from aipcore.params.names import escaped
from aipcore.params.secret import redacted


class StyledFormatter(click.HelpFormatter):
    """Click's formatter with bold headings and cyan names. Click removes the colours outside terminals."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write the usage line."""
        super().write_usage(click.style(prog, bold=True), args, prefix)

    def write_text(self, text: str) -> None:
        """Write a paragraph. Backticks mark code on documentation pages only."""
        super().write_text(text.replace("`", ""))

    def write_heading(self, heading: str) -> None:
        """Write the heading of a section."""
        super().write_heading(click.style(heading, bold=True))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write names and descriptions in two columns."""
        super().write_dl([(click.style(name, fg="cyan"), text) for name, text in rows], col_max, col_spacing)


class StyledContext(click.Context):
    """Click context with styled help."""

    formatter_class = StyledFormatter


class Command(click.Command):
    """Base class of aip's commands."""

    context_class = StyledContext


class Group(click.Group):
    """Base class of aip's command groups."""

    context_class = StyledContext
    command_class = Command


_prefix = ""


def prefix_reports(text: str) -> None:
    """Prefix all further reports on standard error with `text`, which identifies the process."""
    global _prefix  # noqa: PLW0603 - code that reports an error does not know its process
    _prefix = text


def report(label: str, message: str) -> None:
    """Write one sentence to standard error, with a red label on terminals."""
    click.echo(
        f"{_prefix}{click.style(f'{label}:', fg='red', bold=True)} {escaped(redacted(message))}",
        err=True,
        color=color_wanted(),
    )


def echo(text: str) -> None:
    """Write a line to standard output, with control characters escaped."""
    click.echo(escaped(text))


def color_wanted() -> bool | None:
    """Return False if the environment asks for no colours (no-color.org); None lets click check for a terminal."""
    return False if os.environ.get("NO_COLOR") else None
