"""Checkpoints: the full state of a run, for resuming.

`checkpoint/step-0000001234/` holds `variables.npz` (every variable), `progress.json` (epoch, position in the data,
history, best value, callbacks) and, written last, `manifest.json` with the size and SHA-256 of the two. A checkpoint
counts as complete when its manifest is there and agrees. Nothing in it is pickled.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import ml_dtypes
import numpy as np
import numpy.typing as npt

from aipcore.errors import TrainingError
from aipcore.training.atomic import replaced_dir

FORMAT = 1
"""Version of the layout above."""

Arrays = Mapping[str, npt.NDArray[Any]]


@attrs.frozen(kw_only=True, eq=False)
class Checkpoint:
    """What a checkpoint holds: all variables by name, and everything else as JSON."""

    arrays: Arrays
    progress: dict[str, Any]


def write_checkpoint(folder: Path, updates: int, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Writes a checkpoint beside the others and then removes all but the newest `keep` complete ones.

    Args:
        folder: the run's `checkpoint` folder.
        updates: training batches done so far, which names the checkpoint.
        checkpoint: the state.
        keep: how many to keep.

    Raises:
        TrainingError: the disk is full or not writable; older checkpoints are untouched.
    """
    path = folder / f"step-{updates:010d}"
    try:
        with replaced_dir(path) as fresh:
            _write_arrays(fresh / "variables.npz", checkpoint.arrays)
            (fresh / "progress.json").write_text(json.dumps(checkpoint.progress, indent=1), encoding="utf-8")
            manifest = {
                "format": FORMAT,
                "dtypes": {name: array.dtype.name for name, array in checkpoint.arrays.items()},
                "files": {file.name: _fingerprint(file) for file in sorted(fresh.iterdir())},
            }
            (fresh / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    except OSError as error:
        raise TrainingError(
            f"The checkpoint {path} could not be written ({error.strerror or error}); earlier ones are untouched: "
            "make room or mend the folder's permissions."
        ) from error
    for old in _newest_first(folder)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def newest_checkpoint(folder: Path) -> Path:
    """The newest complete checkpoint of a run.

    Raises:
        TrainingError: there is none.
    """
    for path in _newest_first(folder):
        if not problems(path):
            return path
    raise TrainingError(f"{folder} holds no complete checkpoint: train with --trainer.write_checkpoints True.")


def problems(path: Path) -> str:
    """Why a checkpoint is not complete; empty if it is."""
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        for name, expected in manifest["files"].items():
            if _fingerprint(path / name) != expected:
                return f"{name} differs from the manifest"
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a complete checkpoint.

    Raises:
        TrainingError: it is damaged, or written by a newer aip.
    """
    problem = problems(path)
    if problem:
        raise TrainingError(f"The checkpoint {path} is damaged ({problem}): take an older one.")
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    if manifest["format"] > FORMAT:
        raise TrainingError(
            f"The checkpoint {path} has format {manifest['format']}, this aip reads up to {FORMAT}: upgrade aipcore."
        )
    arrays: dict[str, npt.NDArray[Any]] = {}
    with np.load(path / "variables.npz", allow_pickle=False) as stored:
        for position, (name, dtype) in enumerate(manifest["dtypes"].items()):
            array = stored[f"{position:06d}"]
            arrays[name] = (
                array.view(np.dtype(getattr(ml_dtypes, dtype, dtype))) if array.dtype.name != dtype else array
            )
    return Checkpoint(arrays=arrays, progress=json.loads((path / "progress.json").read_text(encoding="utf-8")))


def _write_arrays(path: Path, arrays: Arrays) -> None:
    # NumPy's format has no name for bfloat16 and its like: those are stored as integers, their type in the manifest.
    plain = {
        f"{position:06d}": array if array.dtype.isbuiltin == 1 else array.view(f"u{array.dtype.itemsize}")
        for position, array in enumerate(arrays.values())
    }
    with path.open("wb") as file:
        np.savez(file, **plain)  # type: ignore[arg-type]


def _newest_first(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("step-*") if path.is_dir()), reverse=True)


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
