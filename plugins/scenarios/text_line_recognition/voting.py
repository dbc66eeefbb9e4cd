"""The vote of several models on a text: aligned characters, weighted by their confidences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from aip_plugins.scenarios.text_line_recognition.codec import Reading

Column = dict[str, list[float]]
"""A position of aligned texts: by character, its confidences in the texts that have it there; "" stands for none."""

ABSENT = 0.6
"""The share of a text's confidence that counts where it has no character. Models omit characters more often than they
add some. With 0.6, two of three equally confident models still decide."""


def vote_texts(readings: Sequence[Reading]) -> Reading:
    """Return the joint text of several models, as in ROVER (Fiscus, 1997).

    The distinct texts are aligned one after the other, beginning with the one of the greatest total confidence. In each
    column of the alignment, the character with the greatest sum of confidences wins. Where a text has no character, its
    confidence as a whole counts, times `ABSENT`. The confidence of a winner is its sum divided by the number of models.
    """
    groups: dict[str, list[Reading]] = {}
    for reading in readings:
        groups.setdefault(reading.text, []).append(reading)
    columns: list[Column] = []
    aligned: list[float] = []
    for group in sorted(groups.values(), key=lambda group: -sum(each.confidence for each in group)):
        text, absent = group[0].text, [ABSENT * each.confidence for each in group]
        longer = []
        for earlier, position in _align(columns, text, len(aligned)):
            column = {"": list(aligned)} if earlier is None else earlier
            if position is None:
                column[""] += absent
            else:
                column.setdefault(text[position], []).extend(float(each.confidences[position]) for each in group)
            longer.append(column)
        columns = longer
        aligned += absent
    winners = [max(column.items(), key=lambda item: sum(item[1])) for column in columns]
    shares = [(character, sum(found) / len(readings)) for character, found in winners if character]
    confidences = np.array([share for _, share in shares], np.float32)
    empty = sum(each.confidence for each in groups.get("", [])) / len(readings)
    confidence = float(np.exp(np.log(confidences).mean())) if shares else empty
    return Reading("".join(character for character, _ in shares), confidence, confidences)


def _align(columns: Sequence[Column], text: str, texts: int) -> list[tuple[Column | None, int | None]]:
    """Return pairs of columns and positions of a text, in order; None where either has no counterpart.

    The alignment has the fewest disagreements between the text and the texts that are already aligned.

    Args:
        columns: alignment of earlier texts.
        text: further text.
        texts: number of earlier texts.
    """
    characters = np.array([ord(character) for character in text])
    insertions = np.arange(len(text) + 1) * texts
    costs = [insertions]
    for column in columns:
        matches = np.full(len(text), texts)
        for character, found in column.items():
            if character:
                matches[characters == ord(character)] -= len(found)
        row = costs[-1] + (texts - len(column[""]))
        row[1:] = np.minimum(row[1:], costs[-1][:-1] + matches)
        costs.append(np.minimum.accumulate(row - insertions) + insertions)
    pairs: list[tuple[Column | None, int | None]] = []
    i, j = len(columns), len(text)
    while i or j:
        cost, column = costs[i][j], columns[i - 1] if i else {}
        if i and j and cost == costs[i - 1][j - 1] + texts - len(column.get(text[j - 1], ())):
            i, j = i - 1, j - 1
            pairs.append((column, j))
        elif i and cost == costs[i - 1][j] + texts - len(column[""]):
            i -= 1
            pairs.append((column, None))
        else:
            j -= 1
            pairs.append((None, j))
    return pairs[::-1]
