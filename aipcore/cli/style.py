"""The style of `--help`: click's layout with aip's colours on terminals."""

from __future__ import annotations

import os
from collections.abc import Iterable

import click

from aipcore.errors import UsageError
from aipcore.params.names import escaped, nearest, one_of
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
    missing = ""
    """The error if a required word is missing; by default, it shows the words of the command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words after the command.

        Raises:
            UsageError: a required word is missing.
        """
        try:
            return super().parse_args(ctx, args)
        except click.MissingParameter as error:
            words = [each.make_metavar(ctx) for each in self.params if isinstance(each, click.Argument)]
            lacks = error.param.make_metavar(ctx) if isinstance(error.param, click.Argument) else "An option"
            shown = " ".join([ctx.command_path, *words])
            raise UsageError(self.missing or f"{lacks} is missing: {shown}.") from error


class NameChoice(click.Choice[str]):
    """One of a few names, with aip's sentence for another one.

    Args:
        choices: the names.
        missing: the beginning of the error for another name, such as `There is no plugin kind`.
    """

    def __init__(self, choices: Iterable[str], missing: str) -> None:
        super().__init__(list(choices), case_sensitive=False)
        self.missing = missing

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name.

        Raises:
            UsageError: it is not one of the names.
        """
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            near = nearest(value, self.choices)
            hint = f"did you mean {one_of(near)}?" if near else f"choose {one_of(self.choices)}."
            raise UsageError(f"{self.missing} {value!r}; {hint}") from error


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
