"""Relative paths that were recorded in one working folder and are read in another."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import attrs

from aipcore.params.layers import Layer, Option
from aipcore.params.tree import Group, leaves


@attrs.frozen
class Place:
    """A parameter whose relative paths mean something in the folder that they were recorded in.

    Attributes:
        option: the parameter with the paths to take, those of that folder absolute; None if nothing changes.
        sentences: what the user should know.
    """

    option: Option | None
    sentences: tuple[str, ...]


def places(tree: Group, recorded_in: Path, origins: Collection[str]) -> list[Place]:
    """Finds relative paths that are not there from the working folder, but from the one that they were recorded in.

    A path that is there from both is that of the working folder; if it is another file, the user hears of it. Only
    parameters of the type `Path`, or a tuple of these, are known to be paths; resources have copies.

    Args:
        tree: the filled parameters.
        recorded_in: an absolute folder.
        origins: where the values come from that were recorded there; others are left alone.
    """
    found: list[Place] = []
    for leaf in leaves(tree):
        values = leaf.value if isinstance(leaf.value, tuple) else (leaf.value,)
        paths = [value for value in values if isinstance(value, Path)]
        if leaf.origin not in origins or leaf.spec.resource or not paths or len(paths) != len(values):
            continue
        name = ".".join(leaf.path)
        taken = [_place(path, recorded_in) for path in paths]
        sentences = tuple(_sentence(name, *pair) for pair in zip(paths, taken, strict=True) if pair[0] != pair[1])
        sentences += tuple(
            f"{path} ({name}) is taken from this folder; the run was started in {recorded_in}, where it is another."
            for path, other in zip(paths, taken, strict=True)
            if path == other and _differs(path, recorded_in / path)
        )
        if sentences:
            moved = paths != taken
            found.append(Place(Option(f"--{name}", tuple(map(str, taken))) if moved else None, sentences))
    return found


def places_layer(name: str, found: list[Place]) -> Layer:
    """The paths to take, as values of the origin `name`."""
    return Layer(name, {}, tuple(place.option for place in found if place.option is not None))


def _place(path: Path, recorded_in: Path) -> Path:
    other = recorded_in / path
    return path if path.is_absolute() or _is_there(path) or not _is_there(other) else other


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _differs(path: Path, other: Path) -> bool:
    try:
        return not path.is_absolute() and not path.samefile(other)
    except OSError:
        return False


def _sentence(name: str, path: Path, taken: Path) -> str:
    return f"{path} ({name}) is not in this folder: {taken} is taken, since the run was started there."
