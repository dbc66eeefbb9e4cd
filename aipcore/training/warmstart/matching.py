"""Matching of a source's variables to those of the model, and the report of the result."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import attrs

from aipcore.params.names import count

Status = Literal["loaded", "renamed", "adapted", "skipped", "missing", "shape mismatch"]


@attrs.frozen(kw_only=True)
class Row:
    """One variable.

    Attributes:
        path: its path in this model; empty if it is only in the file.
        source: its name in the file; empty if the file has none for it.
        shape: its shape in this model, or in the file if it is only there.
        source_shape: the shape in the file; None without a source.
        status: `loaded` under its own name; `renamed` by a rule or because its layer has another number here; `adapted`
            by the scenario; `skipped` because of `include` and `exclude`, or because this model has no such variable;
            `missing` in the file; `shape mismatch`.
        adapted: of an adapted variable, the number of entries without initial values, and of all; see `Adapted`.
    """

    path: str
    source: str
    shape: tuple[int, ...]
    source_shape: tuple[int, ...] | None
    status: Status
    adapted: tuple[int, int] | None = None

    @property
    def is_loaded(self) -> bool:
        """True if the variable has values of the source."""
        return self.status in ("loaded", "renamed", "adapted")


@attrs.frozen(kw_only=True)
class WarmStart:
    """A completed warm start.

    Attributes:
        path: the file or folder with the weights.
        kind: its kind, such as "checkpoint".
        rows: this model's variables in order, then the unused variables of the file.
    """

    path: Path
    kind: str
    rows: Sequence[Row]

    def summary(self) -> str:
        """Return one line with the number of loaded variables, and the numbers of others by status."""
        counts = Counter(row.status for row in self.rows if row.path)
        loaded = sum(row.is_loaded for row in self.rows)
        parts = [f"{loaded:,} of {count(sum(counts.values()), 'variable')} loaded"]
        changed: tuple[Status, ...] = ("renamed", "adapted")
        parts += [f"{counts[status]:,} of them {status}" for status in changed if counts[status]]
        others: tuple[Status, ...] = ("skipped", "missing", "shape mismatch")
        parts += [f"{counts[status]:,} {status}" for status in others if counts[status]]
        unused = sum(not row.path for row in self.rows)
        if unused:
            parts.append(f"{unused:,} unused")
        return f"{self.path} ({self.kind}): {', '.join(parts)}"


Unit = tuple[tuple[str, str | None], ...]
Shape = tuple[int, ...]
Content = Mapping[str, Shape]
T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Target:
    """A variable of the model.

    Attributes:
        path: its path.
        name: its expected name in the source.
        own_name: a name in the source that counts as the same.
        shape: its shape.
        units: prefixes of `name`, in parts, each with its class part if it is numbered: first the prefix of the model's
            layer that it belongs to, then that of a layer inside that layer, if it belongs to one.
    """

    path: str
    name: str
    own_name: str
    shape: Shape
    units: tuple[Unit, ...]


@attrs.frozen(kw_only=True)
class Matches:
    """The result of matching.

    Attributes:
        found: the names in the source by target path.
        differing: the same for variables of different shapes.
        ambiguous: paths of targets whose numbered layers can be matched in more than one way.
    """

    found: Mapping[str, str]
    differing: Mapping[str, str]
    ambiguous: frozenset[str]


def match(targets: Sequence[Target], source: Mapping[str, Shape]) -> Matches:
    """Find the variable of the source for each target.

    Args:
        targets: the variables to load.
        source: the shapes of the source's variables by name.
    """
    found = {each.path: each.name for each in targets if source.get(each.name) == each.shape}
    ambiguous: set[str] = set()
    # First whole layers, then the inner layers of those that have changed.
    for level in range(max((len(each.units) for each in targets), default=0)):
        ambiguous = _match_numbered(targets, source, level, found)
    used = set(found.values())
    differing = {
        each.path: each.name
        for each in targets
        if each.path not in found and each.name in source and each.name not in used
    }
    return Matches(found=found, differing=differing, ambiguous=frozenset(ambiguous))


def _match_numbered(
    targets: Sequence[Target], source: Mapping[str, Shape], level: int, found: dict[str, str]
) -> set[str]:
    """Correct `found` for numbered layers; return the paths of those that can be matched in several ways."""
    ambiguous: set[str] = set()
    groups = _numbered(targets, level)
    there = _layers_there(list(groups), source)
    for pattern, layers in groups.items():
        paths = {each.name: each.path for layer in layers.values() for each in layer}
        here = [_content({each.name: each.shape for each in layer}, unit) for unit, layer in layers.items()]
        theirs = [_content({name: source[name] for name in names}, unit) for unit, names in there[pattern].items()]
        left = {name for names in there[pattern].values() for name in names} - set(found.values())
        if not left or all(path in found for path in paths.values()):
            continue
        pairs = align([shapes for shapes, _ in here], [shapes for shapes, _ in theirs])
        if pairs is None:
            ambiguous |= {path for path in paths.values() if path not in found}
        elif pairs:
            for path in paths.values():
                found.pop(path, None)
            for one, other in pairs:
                found |= {paths[name]: theirs[other][1][part] for part, name in here[one][1].items()}
    return ambiguous


def _content(shapes: Mapping[str, Shape], unit: str) -> tuple[Content, dict[str, str]]:
    """Return a layer's shapes by comparable names, and the full names. Inner layers may be numbered too."""
    content: dict[str, Shape] = {}
    names: dict[str, str] = {}
    for name in sorted(shapes, key=lambda name: (_numbers(name), name)):
        part = re.sub(r"_\d+(?=/)", "", name[len(unit) + 1 :])
        count = 1
        while (unique := f"{part}~{count}") in content:
            count += 1
        content[unique] = shapes[name]
        names[unique] = name
    return content, names


def align(here: Sequence[Content], there: Sequence[Content]) -> list[tuple[int, int]] | None:
    """Return the pairs of equal layers in the longest common subsequence of two sequences; None if it is not unique.

    Args:
        here: the shapes of each layer's variables by name, in the order of the layers.
        there: the same for the source.
    """
    rows, columns = len(here), len(there)
    longest = [[0] * (columns + 1) for _ in range(rows + 1)]
    ways = [[1] * (columns + 1) for _ in range(rows + 1)]
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            equal = dict(here[i - 1]) == dict(there[j - 1])
            through = longest[i - 1][j - 1] + equal
            best = longest[i][j] = max(longest[i - 1][j], longest[i][j - 1], through)
            # These count sets of pairs: a set that omits both layers is counted twice, so it is subtracted once.
            count = ways[i - 1][j] * (longest[i - 1][j] == best) + ways[i][j - 1] * (longest[i][j - 1] == best)
            count -= ways[i - 1][j - 1] * (longest[i - 1][j - 1] == best)
            count += ways[i - 1][j - 1] * (equal and through == best)
            ways[i][j] = count
    if ways[rows][columns] > 1:
        return None
    pairs = []
    i, j = rows, columns
    while i and j:
        if longest[i - 1][j] == longest[i][j]:
            i -= 1
        elif longest[i][j - 1] == longest[i][j]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    return pairs[::-1]


def _numbered(targets: Sequence[Target], level: int) -> dict[Unit, dict[str, list[Target]]]:
    """Return targets with numbered layers, by place and class, then by layer in the order of the numbers."""
    groups: dict[Unit, dict[str, list[Target]]] = {}
    for each in targets:
        unit = each.units[min(level, len(each.units) - 1)] if each.units else ()
        if any(base for _, base in unit):
            pattern: Unit = tuple(("" if base else part, base) for part, base in unit)
            groups.setdefault(pattern, {}).setdefault("/".join(part for part, _ in unit), []).append(each)
    return {pattern: _in_order(units) for pattern, units in groups.items()}


def _layers_there(patterns: Sequence[Unit], source: Iterable[str]) -> dict[Unit, dict[str, list[str]]]:
    """Return the source's layers by place and class, in the order of their numbers, with their variables."""
    # A variable belongs to its innermost layer.
    expressions = {pattern: _expression(pattern) for pattern in sorted(patterns, key=len, reverse=True)}
    layers: dict[Unit, dict[str, list[str]]] = {pattern: {} for pattern in patterns}
    for name in source:
        for pattern, expression in expressions.items():
            if found := expression.fullmatch(name):
                layers[pattern].setdefault(found[1], []).append(name)
                break
    return {pattern: _in_order(units) for pattern, units in layers.items()}


def _expression(pattern: Unit) -> re.Pattern[str]:
    parts = (rf"{re.escape(base)}(?:_\d+)?" if base else re.escape(part) for part, base in pattern)
    return re.compile(f"({'/'.join(parts)})/.+")


def _in_order(units: dict[str, T]) -> dict[str, T]:
    return dict(sorted(units.items(), key=lambda item: _numbers(item[0])))


def _numbers(name: str) -> list[int]:
    return [int(found[1]) if (found := re.search(r"_(\d+)$", part)) else 0 for part in name.split("/")]
