"""Names: normalized for comparison, matched to similar ones, and formatted for display."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher


def normalize(name: str) -> str:
    """Return the form of a component name used in comparisons: lower case, without `-` and `_`."""
    return name.casefold().replace("-", "").replace("_", "")


def nearest(name: str, candidates: Iterable[str], *, most: int = 3, least: float = 0.7) -> list[str]:
    """Return the candidates that are most similar to `name`, best first.

    Dotted names are compared as a whole and by their last part, so `--epochs` finds `--trainer.epochs`.
    """
    wanted = normalize(name.removeprefix("--"))
    last = wanted.rpartition(".")[2]
    scored = []
    for candidate in candidates:
        plain = normalize(candidate.removeprefix("--"))
        whole = _likeness(wanted, plain)
        tail = _likeness(last, plain.rpartition(".")[2])
        # A match of the tail alone is weaker evidence than one of the whole name, unless it is exact.
        score = max(whole, 0.95 if tail == 1 else tail * 0.85 if "." in plain and "." not in wanted else 0)
        if score >= least:
            scored.append((-score, candidate))
    scored.sort()
    best = -scored[0][0] if scored else 0.0
    return [candidate for score, candidate in scored if -score >= best - 0.12][:most]


def _likeness(a: str, b: str) -> float:
    # Swapped letters, as in `sdg`, are one mistake.
    return max(SequenceMatcher(None, a, b, autojunk=False).ratio(), 0.9 if sorted(a) == sorted(b) else 0)


def one_of(words: Iterable[str]) -> str:
    """Join words as `a`, `a or b`, `a, b or c`."""
    listed = list(words)
    return " or ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)


def count(number: int, noun: str) -> str:
    """Return `1 epoch`, `1,000 epochs`, `2 batches`."""
    ending = "" if number == 1 else "es" if noun.endswith(("tch", "sh", "s", "x")) else "s"
    return f"{number:,} {noun}{ending}"


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: object) -> str:
    """Return foreign text on one line, with newlines and all other control characters escaped."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in str(text))


def escaped(text: str) -> str:
    """Escape the control characters of a text, which a terminal would execute.

    Newlines and tabs are kept.
    """
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text.replace("\r\n", "\n"))
