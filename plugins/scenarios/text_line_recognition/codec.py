"""Characters as numbers: 0 is the blank of CTC, the characters count from 1."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

from aipcore.errors import UsageError
from aipcore.files import read_text


@attrs.frozen(eq=False)
class Reading:
    """A text that was read.

    Attributes:
        text: the text.
        confidence: the geometric mean of the confidences; for an empty text, the least probability of the blank.
        confidences: the probability of each character, from 0 to 1: float32 [characters].
    """

    text: str
    confidence: float
    confidences: Any


@attrs.frozen
class Codec:
    """The alphabet of a model.

    Attributes:
        alphabet: each character once; the character at position i has the number i + 1.
    """

    alphabet: str

    @property
    def classes(self) -> int:
        """The number of classes, including the blank."""
        return len(self.alphabet) + 1

    @property
    def unknown(self) -> str:
        """The character that replaces characters outside the alphabet."""
        return next(mark for mark in map(chr, range(0xFFFD, 0, -1)) if mark not in self.alphabet)

    def encode(self, text: str) -> list[int]:
        """Return the numbers of a text. A character outside the alphabet has the number `classes`."""
        return [self.alphabet.find(character) + 1 or self.classes for character in text]

    def decode(self, numbers: Iterable[int]) -> str:
        """Return the text of numbers, without blanks."""
        characters = self.alphabet + self.unknown
        return "".join(characters[number - 1] for number in numbers if number > 0)

    def read(self, logits: Any) -> Reading:
        """Return the text of the most probable path. The confidence of a character is that of its most probable step.

        Args:
            logits: float array of shape [steps, classes].
        """
        import numpy as np

        best = logits.argmax(axis=-1)
        shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
        log_probabilities = -np.log(shifted.sum(axis=-1, dtype=np.float64))
        changes = np.flatnonzero(np.diff(best, prepend=-1))
        numbers = best[changes]
        greatest = np.maximum.reduceat(log_probabilities, changes)[numbers > 0]
        overall = greatest.mean() if len(greatest) else log_probabilities.min()
        return Reading(self.decode(numbers.tolist()), float(np.exp(overall)), np.exp(greatest).astype(np.float32))


def alphabet_of(texts: Iterable[str]) -> str:
    """Return the characters of some texts, sorted by code point."""
    return "".join(sorted(set("".join(texts))))


def read_codec(path: Path) -> str:
    """Return the alphabet of a codec file: UTF-8, one character per line.

    Raises:
        UsageError: the file cannot be read or is empty, or a line is not a single character or occurs twice.
    """
    try:
        lines = read_text(path).removeprefix("\ufeff").split("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"--data.codec {path} is not UTF-8 text. Save it as UTF-8.") from error
    except OSError as error:
        raise UsageError(f"--data.codec {path} cannot be read ({error.strerror}). Use a UTF-8 text file.") from error
    if lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if len(line) != 1 or line in lines[: number - 1]:
            raise UsageError(
                f"--data.codec {path}, line {number}: {line!r} is not allowed. A line must be one character that is on "
                "no other line."
            )
    if not lines:
        raise UsageError(f"--data.codec {path} is empty. Write one character per line.")
    return "".join(lines)
