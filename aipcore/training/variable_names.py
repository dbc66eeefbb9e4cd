"""Names of variables that stay apart."""

from __future__ import annotations

from collections.abc import Iterable


def unique_names(names: Iterable[str]) -> list[str]:
    """The names in their order; the second of a name gets `~2` added, the third `~3`, and so on."""
    taken: dict[str, None] = {}
    for name in names:
        count = 1
        unique = name
        while unique in taken:
            count += 1
            unique = f"{name}~{count}"
        taken[unique] = None
    return list(taken)
