"""A page that is made from code: written by `make docs`, compared by `--check`."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path


def write_or_check(target: Path, text: str) -> int:
    """Write a page, or with `--check` on the command line only report if it is out of date.

    Returns:
        the exit code: 1 if the page is not up to date.
    """
    if "--check" in sys.argv[1:]:
        return 0 if target.exists() and target.read_text(encoding="utf-8") == text else 1
    target.write_text(text, encoding="utf-8")
    return 0


def cell(text: str) -> str:
    """Text as it stands in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def table(heading: str, rows: list[tuple[str, ...]]) -> str:
    """A table of Markdown.

    Args:
        heading: what stands above the columns, with `|` between them.
        rows: the cells, row by row.
    """
    columns = heading.count("|") + 1
    lines = [f"| {heading} |", "|" + "---|" * columns]
    return "\n".join([*lines, *(f"| {' | '.join(map(cell, row))} |" for row in rows)]) + "\n"


def prose(docstring: str) -> str:
    """A docstring as Markdown: its sections become lists, its example a block of code."""
    parts: list[str] = []
    lines = inspect.cleandoc(docstring).splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        heading = re.fullmatch(r"(\w[\w ]*?)(::?)", line)
        if heading is None:
            parts.append(line)
            continue
        body = []
        while number < len(lines) and (not lines[number] or lines[number].startswith(" ")):
            body.append(lines[number])
            number += 1
        block = inspect.cleandoc("\n" + "\n".join(body)).strip("\n")
        if heading[2] == "::":
            parts += [f"```python\n{block}\n```", ""]
        else:
            parts += [f"**{'Arguments' if heading[1] == 'Args' else heading[1]}**", "", items(block), ""]
    return "\n".join(parts).strip() + "\n"


def items(block: str) -> str:
    """The entries `name: text` of a section, each of which may continue on indented lines."""
    if not re.match(r"`?[\w. /*]+`?: ", block):
        return block
    items = []
    for line in block.splitlines():
        found = re.match(r"`?([\w. /*]+?)`?: (.*)", line)
        if found and not line.startswith(" "):
            items.append(f"* `{found[1]}`: {found[2]}")
        else:
            items.append(f"  {line.strip()}".rstrip())
    return "\n".join(items)
