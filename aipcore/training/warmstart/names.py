"""Rules that rename variables before they are compared; pure text operations."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from aipcore.errors import ParamsError
from aipcore.scenario.paths import nearest_of

ARROW = "->"


def is_rule(text: str) -> bool:
    """Return True if a text is a rule `FROM->TO` of a regular expression and a template for it."""
    pattern, arrow, template = text.partition(ARROW)
    if not pattern or not arrow:
        return False
    try:
        # Python checks a template only if there is a match, and this alternative always matches.
        re.sub(f"{pattern}|$", template, "", count=1)
    except (re.error, IndexError):
        return False
    return True


def rename(names: Sequence[str], rules: Sequence[str], option: str, whose: str) -> list[str]:
    """Return the names after applying all rules in order. A rule replaces every match of its expression.

    Args:
        names: the names.
        rules: texts `FROM->TO`.
        option: the option with the rules, for errors.
        whose: the owner of the names, for errors.

    Raises:
        ParamsError: a rule matches no name, or two names become equal.
    """
    renamed = list(names)
    for rule in rules:
        pattern, _, template = rule.partition(ARROW)
        expression = re.compile(pattern)
        if not any(expression.search(name) for name in renamed):
            raise ParamsError(f"{option} {rule!r} matches no name of {whose}. {nearest_of(pattern, renamed, 'name')}")
        renamed = [expression.sub(template, name) for name in renamed]
    first: dict[str, str] = {}
    for before, after in zip(names, renamed, strict=True):
        if first.setdefault(after, before) != before:
            raise ParamsError(
                f"{option} renames both {first[after]!r} and {before!r} of {whose} to {after!r}. "
                "Change the rules so that the names stay different."
            )
    return renamed


def trim(names: Sequence[str]) -> list[str]:
    """Return the names without their first part, if all share it and a layer's name remains in each."""
    split = [name.split("/") for name in names]
    if split and all(_layer_at(parts) > 0 and parts[0] == split[0][0] for parts in split):
        return ["/".join(parts[1:]) for parts in split]
    return list(names)


def add_suffix(name: str, suffix: str, known: Collection[str]) -> str:
    """Return the name with the suffix at the innermost layer for which the result is known, else at the innermost."""
    parts = name.split("/")
    last = _layer_at(parts)
    if last < 0:
        return name
    candidates = ["/".join([*parts[:at], parts[at] + suffix, *parts[at + 1 :]]) for at in range(last, -1, -1)]
    return next((candidate for candidate in candidates if candidate in known), candidates[0])


def _layer_at(parts: Sequence[str]) -> int:
    # In Keras files, the variables of a layer have no names, only vars/0, vars/1 and so on.
    return len(parts) - (3 if len(parts) > 2 and parts[-2] == "vars" else 2)


def some(names: Sequence[str], most: int = 6) -> str:
    """Join names for a sentence, with only a count for all beyond `most`."""
    listed = ", ".join(names[:most])
    return f"{listed} and {len(names) - most:,} more" if len(names) > most else listed or "none"
