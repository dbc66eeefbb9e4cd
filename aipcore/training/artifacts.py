"""Detection of run folders, models, checkpoints and weights files on disk."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from aipcore.errors import ParamsError, UsageError
from aipcore.params.dump import flat
from aipcore.scenario.record import ABOUT_FILE, read_checkpoint_record, read_record

Kind = Literal["run", "model", "checkpoint", "SavedModel", "Keras file", "weights file"]

SAVED_MODEL = "saved_model.pb"
RUN_RECORDS = ("run.json", "params.json")
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@attrs.frozen(kw_only=True)
class Artifact:
    """A file or folder that aip can use.

    Attributes:
        path: the file or folder itself; for a checkpoint the folder `checkpoint/step-N`.
        kind: the kind of artifact.
        checkpoint: for a run, the checkpoint given by the user; None for the newest.
        warnings: sentences about newer checkpoints that are damaged.
    """

    path: Path
    kind: Kind
    checkpoint: Path | None = None
    warnings: tuple[str, ...] = ()


@attrs.frozen
class Accepted:
    """The kinds of artifact that a command accepts.

    Attributes:
        kinds: the accepted kinds.
        words: the list of kinds in error messages.
        option: the option that takes the path, if any.
    """

    kinds: tuple[Kind, ...]
    words: str
    option: str = ""


RUNS = Accepted(("run",), "a run folder, its checkpoint folder, or one checkpoint")
MODELS = Accepted(("model", "checkpoint"), "a run folder, or its best, export or checkpoint subfolder")
WEIGHTS = Accepted(
    ("model", "checkpoint", "SavedModel", "Keras file", "weights file"),
    "a run folder, its best, export or checkpoint subfolder, a .keras or .weights.h5 file, or the folder of a "
    "SavedModel",
    option="--warmstart.model",
)


def find_artifact(path: Path, accepted: Accepted) -> Artifact:
    """Return the artifact at a path, or the one that the path stands for.

    A run folder stands for its `best`, otherwise its `export`, otherwise its newest complete checkpoint. A `checkpoint`
    folder stands for its newest complete checkpoint. Where runs are accepted, both and each checkpoint stand for the
    run.

    Raises:
        UsageError: the path does not exist, or is not of an accepted kind.
        TrainingError: the newest checkpoint was written by a newer version of aip.
    """
    given = f"{accepted.option} {path}".lstrip()
    try:
        for found in _candidates(path):
            if found.kind in accepted.kinds:
                return found
        problem = _problem(path, accepted)
    except OSError as error:
        raise UsageError(f"{given} cannot be read ({error.strerror}). Fix its permissions.") from error
    raise (ParamsError if accepted.option else UsageError)(f"{given} {problem}. Pass {accepted.words}.")


def recorded_params(source: Artifact) -> dict[str, Any] | None:
    """Return the parameters in the record of a model or checkpoint by dotted path; None if aip did not write it.

    Raises:
        UsageError: the record is damaged.
    """
    if source.kind == "model":
        about = read_record(source.path / ABOUT_FILE)
    elif source.kind == "checkpoint":
        about = read_checkpoint_record(source.path)
    else:
        return None
    try:
        return flat(about["params"])
    except RecursionError as error:
        raise UsageError(f"The record of {source.path} is nested too deeply. Use another copy.") from error


def is_cross_validation(about: Mapping[str, Any]) -> bool:
    """Return True if the record of a run is that of a cross-validation, whose folds are runs of their own."""
    trainer = about["params"].get("trainer")
    return isinstance(trainer, Mapping) and trainer.get("folds") is not None and trainer.get("fold") is None


def fold_folder(folder: Path, fold: int) -> Path:
    """Return the run folder of a fold of a cross-validation, counted from 1."""
    return folder / f"fold-{fold}"


def fold_folders(path: Path) -> list[Path]:
    """Return the run folders of all folds of a cross-validation; empty for any other path.

    Raises:
        UsageError: a fold is missing, or a record is damaged.
    """
    if _kind(path) != "run" or not is_cross_validation(about := read_record(path / "run.json")):
        return []
    folders: list[Path] = []
    folds = about["params"]["trainer"]["folds"]
    for fold in range(1, (folds if isinstance(folds, int) else 0) + 1):
        if not fold_folder(path, fold).is_dir():
            raise UsageError(
                f"{fold_folder(path, fold)} is missing. Continue the cross-validation with aip resume {path}."
            )
        folders.append(fold_folder(path, fold))
    return folders


def _candidates(path: Path) -> Iterator[Artifact]:
    """Yield the artifact at a path, the run around it, and the artifacts inside it."""
    kind = _kind(path)
    if kind is not None:
        yield Artifact(path=path, kind=kind)
    if kind == "checkpoint":
        yield from _run_above(path, 2, checkpoint=path)
    elif kind is None and path.is_dir() and path.resolve().name == "checkpoint":
        yield from _run_above(path, 1)
    if kind in ("run", None):
        for name in ("best", "export"):
            if (inner := _kind(path / name)) is not None:
                yield Artifact(path=path / name, kind=inner)
        for folder in (path, path / "checkpoint"):
            yield from _newest(folder)


def _kind(path: Path) -> Kind | None:
    if path.is_file():
        return _kind_of_file(path)
    if not path.is_dir():
        return None
    if (path / ABOUT_FILE).exists():
        return "model"
    if all((path / name).exists() for name in RUN_RECORDS):
        return "run"
    if (path / "manifest.json").exists() or re.fullmatch(r"step-\d{10,}", path.name):
        return "checkpoint"
    return "SavedModel" if (path / SAVED_MODEL).exists() else None


def _kind_of_file(path: Path) -> Kind | None:
    if path.suffix == ".keras":
        return "Keras file" if zipfile.is_zipfile(path) else None
    if path.suffix in (".h5", ".hdf5"):
        with path.open("rb") as file:
            return "weights file" if file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE else None
    return None


def _run_above(path: Path, levels: int, checkpoint: Path | None = None) -> Iterator[Artifact]:
    """Yield the run that contains a folder. Links are followed only if the run is not found without them."""
    plain = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() follows links
    for place in (plain, path.resolve()):
        if _kind(above := place.parents[levels - 1]) == "run":
            yield Artifact(path=above, kind="run", checkpoint=checkpoint)
            return


def _newest(folder: Path) -> Iterator[Artifact]:
    """Yield the newest complete checkpoint of a folder, if there is one."""
    if not any((step / "manifest.json").exists() for step in folder.glob("step-*")):
        return
    # Imported here: reading checkpoints needs NumPy, finding other artifacts does not.
    from aipcore.training.checkpoint.format import find_newest

    path, damaged = find_newest(folder, recover=False)
    if path is not None:
        warnings = tuple(
            f"The checkpoint {each} is damaged ({why}). {path.name} is used instead." for each, why in damaged
        )
        yield Artifact(path=path, kind="checkpoint", warnings=warnings)


def _problem(path: Path, accepted: Accepted) -> str:
    kind = _kind(path)
    if kind == "run":
        return "is a run folder that contains neither a model nor a complete checkpoint"
    if kind == "checkpoint":
        return "is a checkpoint outside a run folder"
    if kind is not None:
        written = " that aip did not write" if kind == "SavedModel" else ""
        return f"is a {kind}{written}"
    if path.is_dir():
        if runs := sorted(inner.name for inner in path.iterdir() if _kind(inner) == "run"):
            more = f" and {len(runs) - 3} more" if len(runs) > 3 else ""
            return f"is not a run folder, but contains {', '.join(str(path / name) for name in runs[:3])}{more}"
        missing = [name for name in RUN_RECORDS if not (path / name).exists()]
        lacks = f"is not a run folder: {missing[0]} is missing" if accepted is RUNS and missing else ""
        return lacks or "contains no model and no complete checkpoint"
    if path.exists():
        return "is a file in another format" if "Keras file" in accepted.kinds else "is a file"
    return "does not exist"
