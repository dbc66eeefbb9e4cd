"""Statistics of recognized lines, and their tables as text."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import attrs

from aip_plugin_ocr.reports.alignment import align, count_errors

LENGTHS = (10, 20, 40, 80)
"""The longest lines of each range of lengths, in characters, except for the last range."""

RARE = 10
"""A character with fewer occurrences in the training texts is rare."""

MOST_ROWS = 10
"""The most rows of a table as text."""

NOTHING = "nothing"


@attrs.define
class ErrorRate:
    """The errors of some lines."""

    lines: int = 0
    wrong_lines: int = 0
    characters: int = 0
    errors: int = 0

    @property
    def of_characters(self) -> float:
        """The edit distances divided by the number of characters, as in `character_error_rate`."""
        return self.errors / max(1, self.characters)

    @property
    def of_lines(self) -> float:
        """The fraction of lines with an error."""
        return self.wrong_lines / max(1, self.lines)

    def add(self, characters: int, errors: int) -> None:
        """Add a line."""
        self.lines += 1
        self.wrong_lines += errors > 0
        self.characters += characters
        self.errors += errors


class ReadingStatistics:
    """Error rates and confused characters of many lines.

    Attributes:
        total: the errors of all lines.
        ranges: those by the length of the truth; see `LENGTHS`.
        confusions: the number of times that a character was read as another, by pair; see `align`.
    """

    def __init__(self) -> None:
        self.total = ErrorRate()
        self.ranges = [ErrorRate() for _ in range(len(LENGTHS) + 1)]
        self.confusions: Counter[tuple[str, str]] = Counter()

    def add(self, truth: str, read: str) -> int:
        """Add a line, and return its number of errors."""
        pairs = align(truth, read)
        errors = count_errors(pairs)
        self.confusions.update(pair for pair in pairs if pair[0] != pair[1])
        for rate in (self.total, self.ranges[sum(len(truth) > longest for longest in LENGTHS)]):
            rate.add(len(truth), errors)
        return errors

    def confusion_rows(self) -> list[tuple[str, str, int]]:
        """Return the confused characters in visible form with their counts, the most frequent first."""
        ordered = sorted(self.confusions.items(), key=lambda item: (-item[1], item[0]))
        return [(visible(truth), visible(read), count) for (truth, read), count in ordered]

    def length_rows(self) -> list[tuple[str, ErrorRate]]:
        """Return the ranges of lengths that have lines, with their errors."""
        lows = (0, *(longest + 1 for longest in LENGTHS))
        names = [f"{low} to {high}" for low, high in zip(lows, LENGTHS, strict=False)] + [f"{lows[-1]} or more"]
        return [(name, rate) for name, rate in zip(names, self.ranges, strict=True) if rate.lines]

    def text(self) -> str:
        """Return the tables of confused characters and of lengths; empty without lines."""
        if not self.total.lines:
            return ""
        lengths = [
            (name, str(rate.lines), f"{rate.of_characters:.2%}", f"{rate.of_lines:.2%}")
            for name, rate in self.length_rows()
        ]
        parts = [_table(("characters", "lines", "character errors", "wrong lines"), lengths)]
        rows = [(truth, read, str(count)) for truth, read, count in self.confusion_rows()]
        if rows:
            parts.insert(0, _table(("truth", "read as", "times"), rows[:MOST_ROWS]))
        if len(rows) > MOST_ROWS:
            parts[0] += f"\nand {len(rows) - MOST_ROWS} more"
        return "\n\n".join(parts)


@attrs.frozen
class CharacterCount:
    """The number of times that a character occurs.

    Attributes:
        character: the character.
        trained: its occurrences in the training texts.
        evaluated: its occurrences in the evaluated texts.
    """

    character: str
    trained: int
    evaluated: int


def count_characters(trained: Iterable[str], evaluated: Iterable[str]) -> list[CharacterCount]:
    """Return the characters of texts with their counts, the rarest of the training texts first."""
    counts = [Counter("".join(texts)) for texts in (trained, evaluated)]
    found = [CharacterCount(each, counts[0][each], counts[1][each]) for each in counts[0] | counts[1]]
    return sorted(found, key=lambda count: (count.trained, count.character))


def alphabet_text(counts: Sequence[CharacterCount]) -> str:
    """Return sentences on the alphabet: its size, the rare characters, and those that were not in the training."""
    known = [count for count in counts if count.trained]
    total = sum(count.trained for count in known)
    parts = [f"The training texts have {total:,} characters, {len(known)} different ones."]
    rare = [f"{visible(count.character)} ({count.trained})" for count in known if count.trained < RARE]
    if rare:
        parts.append(f"Fewer than {RARE} times: {' '.join(rare)}.")
    new = [f"{visible(count.character)} ({count.evaluated})" for count in counts if not count.trained]
    if new:
        parts.append(f"Only in the evaluated texts: {' '.join(new)}.")
    return "\n".join(parts)


def visible(text: str) -> str:
    """Return a character in a form that a reader sees: the open box for a space, the code point of invisible ones."""
    if not text:
        return NOTHING
    if text == " ":
        return "\u2423"
    return text if unicodedata.category(text)[0] in "LNPS" else f"U+{ord(text):04X}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (header, *rows))
    return "\n".join("  ".join(cells).rstrip() for cells in lines)
