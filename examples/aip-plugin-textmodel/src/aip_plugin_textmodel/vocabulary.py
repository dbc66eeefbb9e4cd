"""Encoding of text as numbers: 0 for padding, 1 for a masked or unknown word, other numbers for words.

`python -m aip_plugin_textmodel.vocabulary FILE` writes the most frequent words of the docstrings to FILE, without the
ones that occur everywhere.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import attrs

from aipcore.scenario import Processor, Sample

NOTHING, HIDDEN = 0, 1
LENGTH = 48
"""Maximum number of words read from a text."""

SIZE, TOO_FREQUENT = 2000, 60
"""Number of words in the vocabulary, and of more frequent words skipped because they occur everywhere."""

PACKAGED = Path(__file__).with_name("vocabulary.txt")


def words_of(text: str) -> list[str]:
    """Return the words in lower case. Parts of snake_case and camelCase names are separate words."""
    return re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower())


def read_vocabulary(path: Path) -> list[str]:
    """Return the words of a file with one word per line."""
    return path.read_text(encoding="utf-8").split()


class Encode(Processor):
    """Encodes a text as int32 [48]: its first words as numbers, padded with 0."""

    def __init__(self, vocabulary: Path) -> None:
        words = read_vocabulary(vocabulary)
        self.numbers = {word: number for number, word in enumerate(words, start=HIDDEN + 1)}

    def process(self, sample: Sample) -> Sample:
        """Encode the input."""
        import numpy as np

        numbers = np.full(LENGTH, NOTHING, np.int32)
        found: list[Any] = [self.numbers.get(word, HIDDEN) for word in words_of(sample.inputs)[:LENGTH]]
        numbers[: len(found)] = found
        return attrs.evolve(sample, inputs=numbers)


if __name__ == "__main__":
    from aip_plugin_textmodel.docstrings import docstrings, is_held_out

    counts = Counter(word for _, text in docstrings() if not is_held_out(text) for word in words_of(text))
    frequent = sorted(word for word, _ in counts.most_common(TOO_FREQUENT + SIZE)[TOO_FREQUENT:])
    Path(sys.argv[1]).write_text("\n".join(frequent) + "\n", encoding="utf-8")
