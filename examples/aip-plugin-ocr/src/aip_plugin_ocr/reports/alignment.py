"""The alignment of a recognized text with its truth."""

from __future__ import annotations


def align(truth: str, read: str) -> list[tuple[str, str]]:
    """Return the pairs of characters of an alignment with the fewest edits (Levenshtein, 1966).

    Returns:
        pairs of a character of the truth and one of the recognized text. They are equal, or the second replaces the
        first. An empty second one is a deletion, an empty first one an insertion.
    """
    # Equal ends belong to an alignment with the fewest edits, and most lines are nearly correct.
    start = _equal(truth, read)
    end = _equal(truth[start:][::-1], read[start:][::-1])
    one, other = truth[start : len(truth) - end], read[start : len(read) - end]
    middle = _aligned(one, other)
    return [
        *zip(truth[:start], read[:start], strict=True),
        *middle,
        *((each, each) for each in truth[len(truth) - end :]),
    ]


def count_errors(pairs: list[tuple[str, str]]) -> int:
    """Return the number of edits in an alignment, which is the edit distance."""
    return sum(one != other for one, other in pairs)


def _equal(one: str, other: str) -> int:
    count = 0
    while count < min(len(one), len(other)) and one[count] == other[count]:
        count += 1
    return count


def _aligned(truth: str, read: str) -> list[tuple[str, str]]:
    # distances[i][j] is the edit distance of the first i characters of the truth and the first j that were read.
    distances = [list(range(len(read) + 1))]
    for one in truth:
        before, row = distances[-1], [len(distances)]
        for j, other in enumerate(read):
            row.append(min(before[j] + (one != other), before[j + 1] + 1, row[j] + 1))
        distances.append(row)
    pairs = []
    i, j = len(truth), len(read)
    while i or j:
        here = distances[i][j]
        if i and j and here == distances[i - 1][j - 1] + (truth[i - 1] != read[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((truth[i], read[j]))
        elif i and here == distances[i - 1][j] + 1:
            i -= 1
            pairs.append((truth[i], ""))
        else:
            j -= 1
            pairs.append(("", read[j]))
    return pairs[::-1]
