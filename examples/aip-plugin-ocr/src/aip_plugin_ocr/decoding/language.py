"""Language models of the beam search: a word list, and character n-grams."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import Protocol

from aip_plugin_ocr.decoding.params import BeamSearch
from aipcore.errors import UsageError

END = "\n"
"""The mark before and after each line of text."""
LARGEST = 1 << 26
"""The most characters of a text file. An n-gram model needs about a hundred times as many bytes."""


class LanguageModel(Protocol):
    """A model of text that scores each next character."""

    def score(self, text: str, character: str) -> float:
        """Return the score of a character, or of `END`, after a text: a logarithm that is added to that of the path."""


class WordList:
    """A penalty for words that a list does not contain.

    A word is a run of letters. The penalty applies once, at the first letter that no listed word has there, or at the
    end of an incomplete word.

    Args:
        text: text with the words.
        penalty: penalty of each other word.
    """

    def __init__(self, text: str, penalty: float) -> None:
        self.words = set(_WORD.findall(text))
        self.prefixes = {word[:end] for word in self.words for end in range(len(word) + 1)}
        self.penalty = penalty

    def score(self, text: str, character: str) -> float:
        """Return minus the penalty, or 0."""
        word = _NO_LETTERS.split(text)[-1]
        if not _in(word, self.prefixes):
            return 0.0
        known = _in(word + character, self.prefixes) if _WORD.match(character) else not word or _in(word, self.words)
        return 0.0 if known else -self.penalty


_WORD = re.compile(r"[^\W\d_]+")
_NO_LETTERS = re.compile(r"[\W\d_]+")


def _in(word: str, words: set[str]) -> bool:
    return word in words or word.lower() in words


class CharacterNgrams:
    """An interpolated character n-gram model with Witten-Bell smoothing (Witten and Bell, 1991).

    With N(h) occurrences of context h and T(h) different characters after it, and h' without the first character of h:
    p(c | h) = (N(hc) + T(h) p(c | h')) / (N(h) + T(h)). Below single characters, all characters of the text and one
    unknown character are equally probable.

    Args:
        text: text to learn from, one line per text.
        order: characters of the longest n-gram.
        weight: factor of the logarithm in scores.
        bonus: summand of the score of each character.
    """

    def __init__(self, text: str, order: int, *, weight: float = 1.0, bonus: float = 0.0) -> None:
        lines = END + "".join(line + END for line in text.splitlines() if line.strip())
        self.counts = Counter(lines[1:])
        for size in range(2, order + 1):
            self.counts.update(lines[start : start + size] for start in range(len(lines) - size + 1))
        self.totals: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        for gram, count in self.counts.items():
            self.totals[gram[:-1]] += count
            self.kinds[gram[:-1]] += 1
        self.order, self.weight, self.bonus = order, weight, bonus

    def probability(self, text: str, character: str) -> float:
        """Return the probability of a character, or of `END`, after a text."""
        before = END + text
        found = 1 / (self.kinds[""] + 1)
        for size in range(min(self.order, len(before) + 1)):
            context = before[len(before) - size :]
            kinds = self.kinds.get(context)
            if kinds is None:
                break
            found = (self.counts.get(context + character, 0) + kinds * found) / (self.totals[context] + kinds)
        return found

    def score(self, text: str, character: str) -> float:
        """Return the weighted logarithm of the probability, with the bonus of a character."""
        bonus = 0.0 if character == END else self.bonus
        return self.weight * math.log(self.probability(text, character)) + bonus


def language_files(params: BeamSearch) -> tuple[str, str]:
    """Return the text of the word list and that for the n-gram model; empty without any.

    Raises:
        UsageError: a file cannot be read, is not UTF-8, is empty or too large.
    """
    words = "" if params.words is None else _read(params.words, "--data.decoder.words")
    texts = "\n".join(_read(path, "--data.decoder.texts") for path in params.texts)
    return words, texts


def _read(path: Path, option: str) -> str:
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(LARGEST + 1)
    except UnicodeDecodeError as error:
        raise UsageError(f"{option} {path} is not UTF-8 text. Save it as UTF-8.") from error
    except OSError as error:
        raise UsageError(f"{option} {path} cannot be read ({error.strerror}). Use a UTF-8 text file.") from error
    if len(text) > LARGEST:
        raise UsageError(f"{option} {path} has more than {LARGEST:,} characters. Use a part of it.")
    if not text.strip():
        raise UsageError(f"{option} {path} is empty. Use a file with text.")
    return text
