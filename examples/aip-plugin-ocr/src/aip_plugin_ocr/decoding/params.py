"""Parameters of the decoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aipcore.params import at_least, field, fraction, params


@params
class BestPath:
    """The most probable class of each step."""


@params
class BeamSearch:
    """The most probable text, by prefix beam search, with a word list or an n-gram model."""

    width: int = field(16, help="Texts that are kept after each step.", check=at_least(1))
    least: float = field(
        0.01, help="Least probability of a character at a step. Others are ignored there.", check=fraction()
    )
    words: Path | None = field(
        None, help="UTF-8 text whose words are the word list. A listed word may be capitalized.", resource=True
    )
    unknown_word: float = field(
        4.0, help="Penalty of a word outside the list. It is subtracted from the logarithm.", check=at_least(0)
    )
    texts: tuple[Path, ...] = field(
        (), help="UTF-8 texts from which the n-gram model learns. Each line is a text.", resource=True
    )
    order: int = field(6, help="Characters of the longest n-gram.", check=at_least(1))
    weight: float = field(0.3, help="Exponent of the n-gram model's probability.", check=at_least(0))
    bonus: float = field(0.3, help="Bonus of each character with an n-gram model, in logarithms.")


DECODERS: dict[str, type[Any]] = {"best_path": BestPath, "beam_search": BeamSearch}
"""Decoders by name."""
