"""Files among parameters: relative paths after a change of the working folder, and copies in a model's folder."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import attrs

from aipcore.errors import ParamsError
from aipcore.params.files import Layer, Option
from aipcore.params.tree import COMPONENT_KEY, Group, Leaf, leaves, tree_of


@attrs.frozen
class Place:
    """A parameter with relative paths that refer to the folder in which they were recorded.

    Attributes:
        option: parameter with the paths to use, absolute where they are in that folder; None if nothing changes.
        sentences: messages for the user.
    """

    option: Option | None
    sentences: tuple[str, ...]


def places(tree: Group, recorded_in: Path, origins: Collection[str]) -> list[Place]:
    """Find relative paths that exist only in the folder in which they were recorded.

    A path that exists in both folders refers to the working folder. If the files differ, the user gets a message. Only
    parameters of type `Path`, or tuples of these, are paths. Resources are excluded, since they have copies.

    Args:
        tree: filled parameters.
        recorded_in: absolute path of the folder in which the values were recorded.
        origins: origins of the recorded values; other values are skipped.
    """
    found: list[Place] = []
    for leaf in leaves(tree):
        values = leaf.value if isinstance(leaf.value, tuple) else (leaf.value,)
        paths = [value for value in values if isinstance(value, Path)]
        if leaf.origin not in origins or leaf.spec.resource or not paths or len(paths) != len(values):
            continue
        taken = [_place(path, recorded_in) for path in paths]
        sentences = tuple(_sentence(leaf.name, *pair) for pair in zip(paths, taken, strict=True) if pair[0] != pair[1])
        sentences += tuple(
            f"{path} ({leaf.name}) is read from the current folder. The run was started in {recorded_in}, where this "
            "path is a different file."
            for path, other in zip(paths, taken, strict=True)
            if path == other and _differs(path, recorded_in / path)
        )
        if sentences:
            moved = paths != taken
            found.append(Place(Option(f"--{leaf.name}", tuple(map(str, taken))) if moved else None, sentences))
    return found


def places_layer(name: str, found: list[Place]) -> Layer:
    """Return the paths to use, as values of the origin `name`."""
    return Layer.of_options(name, (place.option for place in found if place.option is not None))


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
    return f"{path} ({name}) is not in the current folder. {taken} is read, since the run was started there."


FOLDER = "resources"
"""Name of the folder with the copies, inside the folder of a run or a model."""

Copies = dict[str, str | list[str]]
"""From the dotted name of a parameter to the path of its copy, or of each copy, relative to the model's folder."""


def check_resources(params: Any) -> None:
    """Check that all resource files of the parameters exist and are readable.

    Raises:
        ParamsError: a resource is not a file, or cannot be read.
    """
    for leaf, paths in _resources(params):
        for path in paths:
            if not path.is_file():
                raise ParamsError(f"--{leaf.name} {path} is not a file. Pass the path of an existing file.")
            try:
                path.open("rb").close()
            except OSError as error:
                raise ParamsError(
                    f"--{leaf.name} {path} cannot be read ({error.strerror}). Fix its permissions."
                ) from error


def planned_copies(params: Any) -> tuple[Copies, dict[str, Path]]:
    """Return the destinations of the copies of all resource files.

    Returns:
        the copies by parameter, in recorded form; and the source of each copy. Files with the same name get different
        copies. A file that is named twice gets one copy.
    """
    copies: Copies = {}
    sources: dict[str, Path] = {}
    taken: dict[Path, str] = {}
    for leaf, paths in _resources(params):
        places = []
        for path in paths:
            whole = path.absolute()
            if whole not in taken:
                taken[whole] = _free_name(path.name, sources)
                sources[taken[whole]] = whole
            places.append(taken[whole])
        copies[leaf.name] = places if isinstance(leaf.value, tuple) else places[0]
    return copies, sources


def copy_resources(sources: Mapping[str, Path], folder: Path) -> None:
    """Copy the resource files into the folder of a run or a model. A copy that is its own source is kept.

    Raises:
        OSError: a file is missing, or the copy cannot be written.
    """
    # Renamed copies come first, since a new file may take the old name.
    inside = folder.absolute()
    for place, source in sorted(sources.items(), key=lambda pair: not pair[1].is_relative_to(inside)):
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and target.samefile(source):
            continue
        fresh = target.with_name(f".{target.name}.new")
        # An existing file is replaced rather than written through, since it may be a link.
        fresh.unlink(missing_ok=True)
        shutil.copyfile(source, fresh)
        fresh.replace(target)


def localized(recorded: Mapping[str, Any], copies: Any, folder: Path) -> dict[str, Any]:
    """Return recorded parameters with the copies in `folder` in place of the original files.

    Args:
        recorded: nested mapping from `to_dict`.
        copies: result of `planned_copies` as read from the folder; untrusted.
        folder: folder of the run or the model.

    Raises:
        ParamsError: a copy is outside the folder, is missing, or does not belong to a parameter.
    """
    result = copy.deepcopy(dict(recorded))
    if not isinstance(copies, Mapping):
        raise ParamsError(f"The resources recorded in {folder} are not a mapping. The folder is damaged.")
    for dotted, places in copies.items():
        *outer, last = str(dotted).split(".")
        parent: Any = result
        for step in outer:
            parent = _below(parent, step)
        if not isinstance(parent, dict) or last not in parent:
            raise ParamsError(
                f"{folder} records a resource of {dotted!r}, which is not a parameter. The folder is damaged."
            )
        parent[last] = (
            [_inside(place, folder) for place in places] if isinstance(places, list) else _inside(places, folder)
        )
    return result


def refuse_foreign_resources(params: Any, folder: Path) -> None:
    """Check that every resource file of a model is a copy in its folder.

    Raises:
        ParamsError: a file is outside the folder.
    """
    home = folder.resolve() / FOLDER
    for leaf, paths in _resources(params):
        for path in paths:
            if not path.resolve().is_relative_to(home):
                raise ParamsError(
                    f"The model {folder} names {path} for {leaf.name}, which is not in its {FOLDER} folder. "
                    f"Pass --{leaf.name} FILE."
                )


def _inside(place: Any, folder: Path) -> str:
    pure = PurePosixPath(place) if isinstance(place, str) else PurePosixPath("/")
    wrong = pure.is_absolute() or ".." in pure.parts or pure.parts[:1] != (FOLDER,) or "\\" in str(place)
    # A link in the folder, or the folder itself, could also lead outside.
    path = folder / pure if not wrong else folder
    if wrong or not path.resolve().is_relative_to(folder.resolve() / FOLDER):
        raise ParamsError(
            f"{folder} names the resource {place!r}, which is outside its {FOLDER} folder. Do not trust it."
        )
    if not path.is_file():
        raise ParamsError(f"{folder} lacks its resource {place}. Copy the whole folder.")
    return str(path)


def _below(parent: Any, step: str) -> Any:
    if isinstance(parent, dict):
        return parent.get(step)
    if isinstance(parent, list):
        named = (each for each in parent if isinstance(each, dict) and each.get(COMPONENT_KEY) == step)
        # Components that may be repeated are found by number.
        return next(named, next((each for number, each in enumerate(parent, 1) if str(number) == step), None))
    return None


def _free_name(name: str, taken: Iterable[str]) -> str:
    # Some file systems are case-insensitive.
    used = {each.casefold() for each in taken}
    stem, suffix = Path(name).stem, Path(name).suffix
    number = 1
    while (place := f"{FOLDER}/{stem}{f'-{number}' if number > 1 else ''}{suffix}").casefold() in used:
        number += 1
    return place


def _resources(params: Any) -> Iterator[tuple[Leaf, list[Path]]]:
    """Yield each resource that has a value, with its paths."""
    for leaf in leaves(params if isinstance(params, Group) else tree_of(params)):
        value = leaf.value
        if not leaf.spec.resource or leaf.missing or value is None or value == ():
            continue
        listed = list(value) if isinstance(value, tuple) else [value]
        if not all(isinstance(path, Path) for path in listed):
            raise ParamsError(f"{leaf.name} is declared as a resource, so its type must be Path or tuple[Path, ...].")
        yield leaf, listed
