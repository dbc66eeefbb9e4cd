"""The code blocks of a page, and the comments that control their execution.

Blocks are run unchanged, in the order of the page and in one folder:

* `console`: one command per line. If lines begin with `$ `, these are commands, and the others their output. The output
  of a failing command must be equal. For other commands, each shown line must occur in this order, with any numbers in
  place of the numbers. `...` matches anything.
* `python`: executed with the names of earlier blocks.
* with `title="FILE"`: written to the file.
* any other: text.

A comment directly before a block changes this:

* `<!-- not run: REASON -->`: the options of its commands are checked, and nothing is run.
* `<!-- excerpt of PATH -->`: its lines are part of this file of the repository.
* `<!-- run with: WORDS -->`: these words are added to each `aip train`, `aip resume` and `aip sweep`, to shorten them.
* `<!-- run before: COMMANDS -->`: commands that prepare the reader's files, one per line.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[1]

GENERATED = "This page is made by `make docs`"
"""The mark of pages that are made from code. Their examples are tested with the code."""

FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>\w*)(?P<info>[^`\n]*)$")
COMMENT = re.compile(r"<!-- (not run|excerpt of|run with|run before):? *(.*?) *-->", re.DOTALL)


@attrs.frozen
class Command:
    """A line that a reader types.

    Attributes:
        text: the line, without prompt and comment.
        shown: output on the page; None if the page shows none.
    """

    text: str
    shown: str | None = None

    @property
    def words(self) -> list[str]:
        """The words as parsed by a shell, up to a pipe or redirection."""
        words: list[str] = []
        for word in shlex.split(self.text, comments=True):
            if word in ("|", ">", "&&", ";", "&"):
                break
            words.append(word)
        return words


@attrs.frozen(kw_only=True)
class Block:
    """A fenced block.

    Attributes:
        line: number of its first line in the page.
        language: word after the fence.
        title: name of the file to write; None for other blocks.
        text: content of the block.
        notes: texts of the comments before the block, by their first words.
    """

    line: int
    language: str
    title: str | None
    text: str
    notes: dict[str, str]

    def commands(self) -> Iterator[Command]:
        """Yield the commands of a console block."""
        lines = _joined(self.text)
        if not any(line.startswith("$ ") for line in lines):
            yield from (Command(text) for line in lines if (text := line.strip()) and not text.startswith("#"))
            return
        number = 0
        while number < len(lines):
            text = lines[number].removeprefix("$ ")
            number += 1
            shown = []
            while number < len(lines) and not lines[number].startswith("$ "):
                shown.append(lines[number])
                number += 1
            yield Command(text, "\n".join(shown).strip("\n") if shown else None)


def _joined(text: str) -> list[str]:
    """Return the lines, with continued lines joined."""
    return re.sub(r" *\\\n *", " ", text).splitlines()


def pages() -> list[Path]:
    """Return the README and all hand-written pages of the documentation, without the decisions."""
    found = [page for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent.name != "decisions"]
    written = [page for page in found if GENERATED not in " ".join(page.read_text(encoding="utf-8").split())]
    return [ROOT / "README.md", *written]


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    found = []
    number = 0
    before: list[str] = []
    while number < len(lines):
        opening = FENCE.match(lines[number])
        number += 1
        if opening is None:
            before.append(lines[number - 1])
            continue
        start = number
        while number < len(lines) and lines[number].strip() != opening["fence"]:
            number += 1
        indent = len(opening["indent"])
        title = re.search(r'title="([^"]+)"', opening["info"])
        found.append(
            Block(
                line=start,
                language=opening["language"],
                title=title[1] if title else None,
                text="".join(f"{line[indent:]}\n" for line in lines[start:number]),
                notes=_notes("\n".join(before)),
            )
        )
        before = []
        number += 1
    return found


def _notes(text: str) -> dict[str, str]:
    """Return the comments at the end of the text before a block."""
    notes = {}
    while True:
        text = text.rstrip()
        start = text.rfind("<!-- ")
        if not text.endswith("-->") or start < 0:
            return notes
        found = COMMENT.fullmatch(text[start:])
        if found:
            notes[found[1]] = found[2]
        text = text[:start]


def inline_commands(page: Path) -> list[Command]:
    """Return the complete commands in sentences and tables: those with arguments and without placeholders."""
    text = page.read_text(encoding="utf-8")
    for block in blocks(page):
        text = text.replace(block.text, "")
    spans = [" ".join(span.replace("\\|", "|").split()) for span in re.findall(r"`(aip [^\s`]+ [^-`][^`]*)`", text)]
    unsaid = re.compile(r"\.\.|\b[A-Z]+\b|[*{]|plugins \w+$")
    return [Command(each) for each in spans if not unsaid.search(re.sub(r"'[^']*'", "", each))]
