"""The checkpoint format: the full state of a run on disk, written, verified and read."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import ml_dtypes
import numpy as np
import numpy.typing as npt

from aipcore.errors import TrainingError
from aipcore.files import MANIFEST_BYTES, PROGRESS_BYTES, read_json
from aipcore.training.checkpoint.atomic import recover_dir, replaced_dir

FORMAT = 2
"""The version of the checkpoint format. Checkpoints of another version are rejected."""

VARIABLES, PROGRESS, MANIFEST = "variables.npz", "progress.json", "manifest.json"
FILES = {VARIABLES, PROGRESS}

HEADER_BYTES = 2**12
"""Maximum bytes of NumPy's header of one array."""

Arrays = Mapping[str, npt.NDArray[Any]]


class DamagedError(Exception):
    """The reason why a checkpoint is not complete."""


@attrs.frozen(kw_only=True, eq=False)
class Checkpoint:
    """The content of a checkpoint.

    Attributes:
        arrays: all variables by name.
        progress: the rest of the state, as JSON values.
        about: the identity of the run: parameters, scenario, versions of aip and its plugins.
    """

    arrays: Arrays
    progress: dict[str, Any]
    about: dict[str, Any] = attrs.field(factory=dict)


def write_checkpoint(folder: Path, updates: int, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write a checkpoint beside the others, then remove all but the newest `keep` complete ones.

    Args:
        folder: the `checkpoint` folder; the run folder around it must exist.
        updates: completed training batches, which name the checkpoint.
        checkpoint: the state.
        keep: number of checkpoints to keep.

    Raises:
        TrainingError: the disk is full or not writable; older checkpoints are untouched.
    """
    path = folder / f"step-{updates:010d}"
    try:
        folder.mkdir(exist_ok=True)
        with replaced_dir(path) as fresh:
            _write_arrays(fresh / VARIABLES, checkpoint.arrays)
            (fresh / PROGRESS).write_text(json.dumps(checkpoint.progress, indent=1), encoding="utf-8")
            content = {
                "format": FORMAT,
                "about": checkpoint.about,
                "variables": {
                    name: {"dtype": array.dtype.name, "shape": list(array.shape)}
                    for name, array in checkpoint.arrays.items()
                },
                "files": {file.name: _fingerprint(file) for file in sorted(fresh.iterdir())},
            }
            (fresh / MANIFEST).write_text(
                json.dumps({**content, "sha256": digest(content)}, indent=1), encoding="utf-8"
            )
    except OSError as error:
        raise TrainingError(
            f"The checkpoint {path} could not be written ({error.strerror or error}). Earlier checkpoints are "
            "unchanged. Free disk space, or fix the permissions of the folder."
        ) from error
    complete = [each for each in newest_first(folder) if _looks_complete(each)]
    for old in complete[max(1, keep) :]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def digest(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest's content, in a canonical notation."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def newest_checkpoint(folder: Path) -> Path:
    """Return the newest complete checkpoint of a run.

    Raises:
        TrainingError: there is none, or it was written by a newer version of aip.
    """
    path, damaged = find_newest(folder)
    if path is None:
        listed = "".join(f" {each.name} is damaged ({why})." for each, why in damaged)
        raise TrainingError(
            f"{folder} contains no complete checkpoint.{listed} Train with --trainer.write_checkpoints True."
        )
    return path


def find_newest(folder: Path, *, recover: bool = True) -> tuple[Path | None, list[tuple[Path, str]]]:
    """Return the newest complete checkpoint, if any, and the newer damaged ones, each with the reason.

    Args:
        folder: the run's `checkpoint` folder.
        recover: if True, restore a checkpoint that a kill left between two renames. A process that only reads must not
            do so, since the run may be writing.

    Raises:
        TrainingError: a newer checkpoint was written by a newer version of aip.
    """
    for leftover in folder.glob(".step-*.old") if recover else ():
        # Left by a kill between two renames; the name is `.step-N.old`.
        recover_dir(folder / leftover.name[1:-4])
    damaged: list[tuple[Path, str]] = []
    for path in newest_first(folder):
        problem = problems(path)
        if not problem:
            return path, damaged
        damaged.append((path, problem))
    return None, damaged


def problems(path: Path) -> str:
    """Return the reason why a checkpoint is not complete; an empty string if it is complete.

    Raises:
        TrainingError: it was written by a newer version of aip.
    """
    try:
        _checked_manifest(path)
    except DamagedError as error:
        return str(error)
    return ""


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a complete checkpoint.

    Raises:
        TrainingError: it is damaged, or was written by a newer version of aip.
    """
    try:
        manifest = _checked_manifest(path)
        arrays = _read_arrays(path / VARIABLES, manifest["variables"])
        progress = _read_json(path / PROGRESS)
        if not isinstance(progress, dict):
            raise DamagedError(f"{PROGRESS} is not a mapping")
    except DamagedError as error:
        raise TrainingError(f"The checkpoint {path} is damaged ({error}). Use an older one.") from error
    return Checkpoint(arrays=arrays, progress=progress, about=manifest["about"])


def newest_first(folder: Path) -> list[Path]:
    """Return the folders of all checkpoints of a run, complete or not, newest first."""
    return sorted((path for path in folder.glob("step-*") if path.is_dir()), reverse=True)


def _looks_complete(path: Path) -> bool:
    """Return True if the file sizes match the manifest. Checksums are left to the reader."""
    try:
        return all((path / name).stat().st_size == size for name, size in _sizes(_manifest(path)).items())
    except (DamagedError, OSError, TrainingError):
        return False


def _sizes(manifest: Mapping[str, Any]) -> dict[str, int]:
    return {name: print_["bytes"] for name, print_ in manifest["files"].items()}


def _checked_manifest(path: Path) -> dict[str, Any]:
    manifest = _manifest(path)
    for name, expected in manifest["files"].items():
        file = path / name
        try:
            if file.is_symlink() or not file.is_file():
                raise DamagedError(f"{name} is missing")
            if file.stat().st_size != expected["bytes"] or _fingerprint(file) != expected:
                raise DamagedError(f"{name} does not match the manifest")
        except OSError as error:
            raise DamagedError(f"{name} cannot be read: {error.strerror or error}") from error
    return manifest


def _manifest(path: Path) -> dict[str, Any]:
    """Return the manifest after checking its checksum and structure."""
    manifest: dict[str, Any] = _read_json(path / MANIFEST)
    try:
        number = manifest["format"]
        if isinstance(number, int) and number > FORMAT:
            raise TrainingError(
                f"The checkpoint {path} has format {number}, but this version of aip reads format {FORMAT}. "
                "Upgrade aipcore."
            )
        content = {key: value for key, value in manifest.items() if key != "sha256"}
        if number != FORMAT:
            raise ValueError(f"the format {number!r} is unknown")
        if digest(content) != manifest["sha256"]:
            raise DamagedError(f"{MANIFEST} does not match its checksum")
        if set(manifest["files"]) != FILES:
            raise DamagedError(f"{MANIFEST} lists files other than {' and '.join(sorted(FILES))}")
        for each in manifest["variables"].values():
            _dtype(each["dtype"])
            if not all(isinstance(size, int) and size >= 0 for size in each["shape"]):
                raise DamagedError(f"{MANIFEST} contains an invalid shape")
        if not all(isinstance(each["bytes"], int) for each in manifest["files"].values()):
            raise DamagedError(f"{MANIFEST} contains an invalid size")
    except (KeyError, TypeError, AttributeError, ValueError, OSError) as error:
        raise DamagedError(f"{MANIFEST}: {type(error).__name__}: {error}") from error
    return manifest


def _read_json(path: Path) -> Any:
    try:
        return read_json(path, limit=PROGRESS_BYTES if path.name == PROGRESS else MANIFEST_BYTES, follow=False)
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path.name}: {type(error).__name__}: {error}") from error


def _write_arrays(path: Path, arrays: Arrays) -> None:
    # NumPy's format has no names for types such as bfloat16. They are stored as integers; the manifest has the type.
    plain = {
        f"{position:06d}": array if array.dtype.isbuiltin == 1 else array.view(f"u{array.dtype.itemsize}")
        for position, array in enumerate(arrays.values())
    }
    with path.open("wb") as file:
        np.savez(file, **plain)  # type: ignore[arg-type]


def _read_arrays(path: Path, variables: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays one by one, after checking each size against the manifest.

    Members must be stored uncompressed, so that nothing can unpack to more than the size of the file.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            names = [f"{position:06d}.npy" for position in range(len(variables))]
            if sum(member.compress_size for member in archive.infolist()) > path.stat().st_size:
                raise DamagedError(f"{VARIABLES} claims more bytes than it has")
            if archive.namelist() != names:
                raise DamagedError(f"{VARIABLES} does not contain the arrays of the manifest")
            for member, (name, spec) in zip(archive.infolist(), variables.items(), strict=True):
                arrays[name] = _read_array(archive, member, name, spec)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise DamagedError(f"{VARIABLES}: {type(error).__name__}: {error}") from error
    return arrays


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, spec: Any) -> npt.NDArray[Any]:
    dtype, shape = _dtype(spec["dtype"]), tuple(spec["shape"])
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    stored = member.compress_type == zipfile.ZIP_STORED and member.file_size == member.compress_size
    if not stored or not size < member.file_size <= size + HEADER_BYTES:
        raise DamagedError(f"{VARIABLES}: {name} takes {member.file_size:,} bytes instead of about {size:,}")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise DamagedError(f"{VARIABLES}: {name} has an unknown version of NumPy's format")
        found, fortran, kind = np.lib.format.read_array_header_1_0(file)
        plain = dtype if dtype.isbuiltin == 1 else np.dtype(f"u{dtype.itemsize}")
        if (found, kind) != (shape, plain):
            raise DamagedError(f"{VARIABLES}: {name} is {kind} {found} instead of {plain} {shape}")
        array = np.frombuffer(bytearray(file.read(size)), plain)
    array = array.reshape(shape, order="F" if fortran else "C")
    return array if plain == dtype else array.view(dtype)


def _dtype(name: Any) -> np.dtype[Any]:
    if not isinstance(name, str):
        raise DamagedError(f"{MANIFEST} contains an invalid type")
    try:
        dtype = np.dtype(getattr(ml_dtypes, name, name))
    except TypeError as error:
        raise DamagedError(f"{MANIFEST} contains the unknown type {name!r}") from error
    if dtype.kind not in "biufcV" or dtype.hasobject or dtype.names is not None:
        raise DamagedError(f"{MANIFEST} contains the type {name!r}, which a variable cannot have")
    return dtype


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
