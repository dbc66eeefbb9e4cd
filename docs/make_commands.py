"""Write docs/commands.md from the commands of `aip`. `--check` only compares."""

from __future__ import annotations

import inspect
import io
import os
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path

import click
from generated_page import table, write_or_check

from aipcore.cli.completion import WordsCommand
from aipcore.cli.main import COMMANDS, app
from aipcore.cli.main import main as aip
from aipcore.hooks.manager import get_plugin_manager

HEAD = """# Commands

The commands of `aip` with their options. This page is made by `make docs` from the commands; `aip COMMAND --help`
shows the same. PARAMETERS stands for the [parameters](parameters.md) of the scenario; `aip train SCENARIO ... --help
all` lists those of one command line.

The options of `aip` itself are allowed anywhere:

"""


def reference() -> str:
    """Return the text of the page."""
    with app.make_context("aip", ["doctor"]) as ctx:
        parts = [HEAD + _click_table(app, ctx)]
        own = [entry.record.name for entry in get_plugin_manager().of_kind("command") if entry.plugin.is_own]
        for name in [*COMMANDS, *own]:
            command = app.get_command(ctx, name)
            assert command is not None
            parts.append(f"## `aip {name}`\n\n{_section([name], command)}")
            if isinstance(command, click.Group):
                for inner, subcommand in sorted(command.commands.items()):
                    parts.append(f"### `aip {name} {inner}`\n\n{_section([name, inner], subcommand)}")
    return "\n".join(parts)


def _section(words: list[str], command: click.Command) -> str:
    """Return the usage, description and options of a command."""
    text = _help(words)
    usage = re.sub(r"\s+", " ", text.partition("\n\n")[0]).removeprefix("Usage: ").strip()
    own = isinstance(command, WordsCommand)
    summary = " ".join(text.split("\n\n")[1].split()) if own else _description(command.help or "")
    with command.make_context(" ".join(words), [], resilient_parsing=True) as ctx:
        options_table = _click_table(command, ctx)
    return f"```text\n{usage}\n```\n\n{summary}\n\n{options_table}"


def _description(docstring: str) -> str:
    """Return the help of a click command. Paragraphs that click does not rewrap become code blocks."""
    parts = []
    for paragraph in inspect.cleandoc(docstring).split("\n\n"):
        if paragraph.startswith("\b"):
            parts.append("```text\n" + inspect.cleandoc(paragraph.removeprefix("\b\n")) + "\n```")
        else:
            parts.append(paragraph)
    return "\n\n".join(parts)


def _click_table(command: click.Command, ctx: click.Context) -> str:
    rows = []
    for option in command.get_params(ctx):
        if isinstance(option, click.Option) and not option.hidden:
            metavar = "" if option.is_flag else option.make_metavar(ctx)
            rows.append((_code(tuple(option.opts), metavar), option.help or ""))
    return table("option | ", rows)


def _code(names: tuple[str, ...], metavar: str) -> str:
    return f"`{', '.join(names)}{f' {metavar}' if metavar else ''}`"


def _help(words: list[str]) -> str:
    said = io.StringIO()
    with redirect_stdout(said):
        code = aip([*words, "--help"])
    if code:
        raise SystemExit(f"aip {' '.join(words)} --help exited with {code}.")
    return said.getvalue()


if __name__ == "__main__":
    os.environ |= {"COLUMNS": "200", "NO_COLOR": "1"}
    sys.exit(write_or_check(Path(__file__).parent / "commands.md", reference()))
