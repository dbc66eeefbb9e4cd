"""What a path to weights is, found out without reading them and without TensorFlow."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

import attrs

from aipcore.errors import ParamsError, TrainingError
from aipcore.files import read_json

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
    from aipcore.training.checkpoint import newest_checkpoint

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
