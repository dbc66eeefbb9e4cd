"""Sources of a warm start: what a path to weights is, and weights with their names."""

from __future__ import annotations

import enum
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs

from aipcore.errors import ParamsError, TrainingError
from aipcore.files import read_json

if TYPE_CHECKING:
    import numpy.typing as npt


class Naming(enum.Enum):
    """How the variables of a source are named; a model's variables have a name of each kind.

    PATHS: as in the program, such as `encoder/dense_1/kernel`.
    LAYERS: the names of the layers around the variable and its position, such as `encoder/dense_1/vars/0`.
    ATTRIBUTES: the same, but layers that are an attribute of a layer go by its name: `lstm/cell/vars/0`.
    ORDER: the same again, but the others go by class and position among those of the class: `sequential/dense/vars/0`.
    """

    PATHS = "paths"
    LAYERS = "layers"
    ATTRIBUTES = "attributes"
    ORDER = "order"


@attrs.frozen(kw_only=True, eq=False)
class Weights:
    """Arrays by name, in the order of the source as far as it has one.

    Attributes:
        arrays: by name; those that share a name go by their place in the source.
        naming: what the names are.
        shared: the names that several arrays share.
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    naming: Naming
    shared: tuple[str, ...] = ()


def named_weights(found: Iterable[tuple[str, str, npt.NDArray[Any]]], naming: Naming) -> Weights:
    """Return weights from a name, a place in the source, and an array each.

    Raises:
        ValueError: the place of one is the name of another.
    """
    listed = list(found)
    count = Counter(name for name, _, _ in listed)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, place, array in listed:
        key = name if count[name] == 1 else place
        if key in arrays:
            raise ValueError(f"two variables in it have the name {key}")
        arrays[key] = array
    return Weights(arrays=arrays, naming=naming, shared=tuple(name for name, times in count.items() if times > 1))


Kind = Literal["checkpoint", "model", "SavedModel", "Keras file", "weights file"]

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
ALLOWED = (
    "give an output folder of aip, its best, export or checkpoint, a .keras or .weights.h5 file, or the folder of a "
    "SavedModel"
)


@attrs.frozen
class Source:
    """Weights on disk.

    Attributes:
        path: the very file or folder they are in; for a checkpoint the folder `checkpoint/step-N`.
        kind: how to read it.
    """

    path: Path
    kind: Kind


def find_source(path: Path) -> Source:
    """What there is at a path.

    The output folder of a run stands for its `best`, or else its `export`, or else its newest complete checkpoint.

    Raises:
        ParamsError: nothing is there, or nothing that holds weights.
    """
    if not path.exists():
        raise ParamsError(f"--warmstart.model {path} does not exist: {ALLOWED}.")
    found = _folder(path) if path.is_dir() else _file(path)
    if found is None:
        what = "holds no weights that aip knows" if path.is_dir() else "is no file of weights that aip knows"
        raise ParamsError(f"--warmstart.model {path} {what}: {ALLOWED}.")
    return found


def variable_paths(path: Path) -> list[str] | None:
    """The paths that aip recorded with a model it wrote, in the order of the model's `state`; None without a record."""
    try:
        about = read_json(path / "aip.json")
        paths = about["variables"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return [str(each) for each in paths] if isinstance(paths, list) else None


def _folder(path: Path) -> Source | None:
    if (path / "manifest.json").is_file() and (path / "variables.npz").is_file():
        return Source(path, "checkpoint")
    if (path / "saved_model.pb").is_file() and (path / "variables" / "variables.index").is_file():
        return Source(path, "SavedModel" if variable_paths(path) is None else "model")
    for name in ("best", "export"):
        if (path / name).is_dir() and (found := _folder(path / name)):
            return found
    for folder in (path, path / "checkpoint"):
        if any((step / "manifest.json").is_file() for step in folder.glob("step-*")):
            return Source(_newest(folder), "checkpoint")
    return None


def _newest(folder: Path) -> Path:
    # Imported here: reading checkpoints needs NumPy, and finding any other source does not.
    from aipcore.training.checkpoint.format import newest_checkpoint

    try:
        return newest_checkpoint(folder)
    except TrainingError as error:
        raise ParamsError(f"--warmstart.model {folder} holds no complete checkpoint: {ALLOWED}.") from error


def _file(path: Path) -> Source | None:
    if not path.is_file():
        # A pipe would be waited for.
        return None
    if path.suffix == ".keras":
        return Source(path, "Keras file") if zipfile.is_zipfile(path) else None
    if path.suffix in (".h5", ".hdf5"):
        with path.open("rb") as file:
            return Source(path, "weights file") if file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE else None
    return None
