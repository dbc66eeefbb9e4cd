"""The blocks of code in a page, and what its comments say about running them.

A block is run as it stands, in the order of the page and in one folder:

* `console`: a line with a command each, or, where lines begin with `$ `, commands and what they print. What a command
  that fails prints must be the same; of what others print, each line that is shown must come in this order, with any
  numbers for the numbers. `...` stands for anything.
* `python`: executed, with the names of earlier blocks.
* with `title="FILE"`: written to the file.
* any other: text.

A comment directly before a block changes that:

* `<!-- not run: REASON -->`: its commands are only checked for options that exist.
* `<!-- excerpt of PATH -->`: its lines stand in this file of the repository.
* `<!-- run with: WORDS -->`: these words are added to each `aip train` and `aip resume`, so that it ends soon.
* `<!-- run before: COMMANDS -->`: commands that get ready what the reader has, a line each.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[1]

GENERATED = "This page is made by `make docs`"
"""What stands in pages that are made from code, whose examples are tested where the code is."""

FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>\w*)(?P<info>[^`\n]*)$")
COMMENT = re.compile(r"<!-- (not run|excerpt of|run with|run before):? *(.*?) *-->", re.DOTALL)


@attrs.frozen
class Command:
    """A line that a reader types.

    Attributes:
        text: the line, without prompt and comment.
        shown: what the page shows as its output; None if it shows none.
    """

    text: str
    shown: str | None = None

    @property
    def words(self) -> list[str]:
        """The words as a shell sees them, up to a pipe or redirection."""
        words: list[str] = []
        for word in shlex.split(self.text, comments=True):
            if word in ("|", ">", "&&", ";"):
                break
            words.append(word)
        return words


@attrs.frozen(kw_only=True)
class Block:
    """A fenced block.

    Attributes:
        line: the number of its first line in the page.
        language: what stands behind the fence.
        title: the name of the file that it is, if it is one.
        text: what stands in it.
        notes: what comments before it say, by the words they begin with.
    """

    line: int
    language: str
    title: str | None
    text: str
    notes: dict[str, str]

    def commands(self) -> Iterator[Command]:
        """The commands of a console block."""
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
    """The lines, with those that end in a backslash put together."""
    return re.sub(r" *\\\n *", " ", text).splitlines()


def pages() -> list[Path]:
    """The README and all pages of the documentation that people write, but for the decisions."""
    found = [page for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent.name != "decisions"]
    written = [page for page in found if GENERATED not in " ".join(page.read_text(encoding="utf-8").split())]
    return [ROOT / "README.md", *written]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
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
    """The comments at the end of the text before a block."""
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
    """The commands within sentences and tables that stand for themselves: with what they are about, and no dots."""
    text = page.read_text(encoding="utf-8")
    for block in blocks(page):
        text = text.replace(block.text, "")
    spans = [" ".join(span.replace("\\|", "|").split()) for span in re.findall(r"`(aip [^\s`]+ [^-`][^`]*)`", text)]
    unsaid = re.compile(r"\.\.|\b[A-Z]+\b|[*{]|plugins \w+$")
    return [Command(each) for each in spans if not unsaid.search(re.sub(r"'[^']*'", "", each))]
