"""Bidirectional text: from the order in which it is stored to the order in which it is printed, and back."""

from __future__ import annotations

import unicodedata
from typing import Literal

Direction = Literal["none", "auto", "ltr", "rtl"]

RIGHT_TO_LEFT = ("R", "AL")


def reordered(text: str, direction: Direction) -> str:
    """Return a text in visual order, left to right, from one in logical order; or the reverse.

    Both are the reordering of the Unicode Bidirectional Algorithm (UAX #9). It is its own inverse for texts of one
    direction with numbers and punctuation. Several logical orders of mixed texts can look alike; then the result is one
    that is printed as the given text.

    Args:
        text: a line.
        direction: the direction of the paragraph; `auto` is that of most letters, and `none` changes nothing.
    """
    # The compiled `bidi.get_display` does not mirror brackets, which rule L4 requires.
    from bidi.algorithm import get_display

    if direction == "none" or not text:
        return text
    if direction == "auto":
        # The first letter, as in UAX #9, is another one in the other order.
        kinds = [unicodedata.bidirectional(character) for character in text]
        right = sum(kind in RIGHT_TO_LEFT for kind in kinds)
        direction = "rtl" if right > kinds.count("L") else "ltr"
    return str(get_display(text, base_dir="R" if direction == "rtl" else "L"))
