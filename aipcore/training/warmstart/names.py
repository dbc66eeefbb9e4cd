"""Rules that change names before they are compared; text only."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from aipcore.errors import ParamsError
from aipcore.scenario.paths import nearest_of

ARROW = "->"


def is_rule(text: str) -> bool:
    """Whether a text is a rule `FROM->TO` whose parts are a regular expression and a template for it."""
    pattern, arrow, template = text.partition(ARROW)
    if not pattern or not arrow:
        return False
    try:
        # A template is only looked at where something matches, and with this alternative something does.
        re.sub(f"{pattern}|$", template, "", count=1)
    except (re.error, IndexError):
        return False
    return True


def rename(names: Sequence[str], rules: Sequence[str], option: str, whose: str) -> list[str]:
    """The names after all rules in their order; a rule changes every place that its expression matches.

    Args:
        names: what to rename.
        rules: texts `FROM->TO`.
        option: where the rules come from, for errors.
        whose: what has the names, for errors.

    Raises:
        ParamsError: a rule matches no name, or two names become one.
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
                f"{option} makes one name, {after!r}, of {first[after]!r} and {before!r} of {whose}: "
                "let the rules keep them apart."
            )
    return renamed


def trim(names: Sequence[str]) -> list[str]:
    """The names without their first part, if all share it and a layer's name remains in each."""
    split = [name.split("/") for name in names]
    if split and all(_layer_at(parts) > 0 and parts[0] == split[0][0] for parts in split):
        return ["/".join(parts[1:]) for parts in split]
    return list(names)


def add_suffix(name: str, suffix: str, known: Collection[str]) -> str:
    """The name with the suffix at its layer: the innermost one for which the result is known, or else the innermost."""
    parts = name.split("/")
    last = _layer_at(parts)
    if last < 0:
        return name
    candidates = ["/".join([*parts[:at], parts[at] + suffix, *parts[at + 1 :]]) for at in range(last, -1, -1)]
    return next((candidate for candidate in candidates if candidate in known), candidates[0])


def _layer_at(parts: Sequence[str]) -> int:
    # Files of Keras have no names for the variables of a layer, but vars/0, vars/1 and so on.
    return len(parts) - (3 if len(parts) > 2 and parts[-2] == "vars" else 2)


def some(names: Sequence[str], most: int = 6) -> str:
    """Names for a sentence, not all if there are many."""
    listed = ", ".join(names[:most])
    return f"{listed} and {len(names) - most:,} more" if len(names) > most else listed or "none"
