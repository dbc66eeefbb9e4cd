"""The run folder: selected and claimed by a new run; found, locked and recovered by a resumed one."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from aipcore.distributed.cluster import LAUNCHER
from aipcore.errors import FolderMovedError, UsageError
from aipcore.files import no_follow, read_json, refuse_link, refuse_links
from aipcore.scenario.record import read_record
from aipcore.training.artifacts import RUNS, find_artifact
from aipcore.training.checkpoint.atomic import recover_dir

RUN_FILES = ("params.json", "checkpoint", "best", "export", "train.log")
"""Names that mark a folder as a run folder."""

WRITTEN = frozenset(
    {*RUN_FILES, "run.json", "status.json", "tensorboard", "resources", "preprocessing", ".lock"}
    | {f".{name}.json.new" for name in ("run", "params", "status")}
    | {f".{name}.{end}" for name in ("best", "export", "preprocessing") for end in ("new", "old")}
)
"""Names that a run writes at the top of its folder, except for files of callbacks."""


def choose_output_dir(given: Path | None, scenario: str) -> Path:
    """Return the folder for a new run, without creating it.

    Args:
        given: the user's choice, or None for a new `runs/SCENARIO-N`.
        scenario: the scenario's name.

    Raises:
        UsageError: the folder already holds a run, is a file, or is not writable.
    """
    if given is None:
        number = 1
        while (path := Path("runs") / f"{scenario}-{number}").exists():
            number += 1
    else:
        path = given
    if path.exists() and not path.is_dir():
        raise UsageError(f"--trainer.output_dir {path} is a file. Choose a new or an existing folder.")
    refuse_links_of_run(path)
    found = [name for name in RUN_FILES if (path / name).exists()]
    if found:
        resume = f" To continue that run: {resume_command(path)}." if (path / "run.json").exists() else ""
        raise UsageError(
            f"--trainer.output_dir {path} already contains a run ({', '.join(found)}). "
            f"Choose another folder, or move this one.{resume}"
        )
    parent = path
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(
            f"--trainer.output_dir {path} cannot be written, because {parent} is not writable. Choose another folder."
        )
    return path


def resume_command(folder: Path, *, trust: bool = False) -> str:
    """Return the command that resumes a run, with the launcher that started this process if there is one."""
    return f"{os.environ.get(LAUNCHER, 'aip')} resume {shlex.quote(str(folder))}{' --trust' if trust else ''}"


def refuse_links_of_run(path: Path) -> None:
    """Reject an existing folder in which a file or folder of a run is a link or not a regular file.

    Raises:
        UsageError: there is such a file or folder.
    """
    if path.is_dir() and os.access(path, os.R_OK | os.X_OK):
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name in WRITTEN:
                    refuse_link(path, entry)


def claim_output_dir(path: Path) -> Path:
    """Create the folder and claim it for this run. This fails if another run has claimed it first.

    Raises:
        UsageError: it cannot be created, or another run has just claimed it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with (path / "train.log").open("x", encoding="utf-8"):
            pass
    except FileExistsError as error:
        raise UsageError(f"{path} was just claimed by another run. Choose another --trainer.output_dir.") from error
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror}). Choose another --trainer.output_dir."
        ) from error
    return path


LOCK = ".lock"
ASIDE = "aside"
"""The folder for checkpoints newer than the one from which a run is resumed."""


@attrs.frozen(kw_only=True)
class RunFolder:
    """A run on disk.

    Attributes:
        path: the run folder.
        about: the content of its `run.json`.
        chosen: the checkpoint given by the user, or None for the newest.
    """

    path: Path
    about: dict[str, Any]
    chosen: Path | None = None

    @property
    def checkpoints(self) -> Path:
        """The folder with the run's checkpoints."""
        return self.path / "checkpoint"

    @property
    def params_file(self) -> Path:
        """The file with the run's resolved parameters."""
        return self.path / "params.json"


def find_run(given: Path) -> RunFolder:
    """Find a run by its folder, the `checkpoint` folder in it, or one checkpoint.

    Raises:
        UsageError: it is none of these, contains a link (see `refuse_links`), or its record cannot be read.
    """
    found = find_artifact(given, RUNS)
    refuse_links(found.path)
    return RunFolder(path=found.path, about=read_record(found.path / "run.json"), chosen=found.checkpoint)


@contextmanager
def locked(path: Path, name: str = LOCK) -> Iterator[None]:
    """Lock a run folder against all other processes, until the context or the process ends.

    The lock belongs only to this process, not to its child processes. A kill releases it.

    Raises:
        UsageError: another process holds the lock, or the folder is not writable.
    """
    try:
        descriptor = no_follow(str(path / name), os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror}). Fix its permissions, or copy it elsewhere and resume there."
        ) from error
    try:
        try:
            _lock(descriptor)
        except OSError as error:
            raise UsageError(
                f"{path} is being written to by another process. Wait for it to end, or stop it."
            ) from error
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path, name: str = LOCK) -> bool:
    """Return True if another process holds the lock of a run folder; see `locked`.

    Do not ask in the process that holds the lock: on POSIX systems, this releases it.
    """
    try:
        descriptor = no_follow(str(path / name), os.O_RDONLY)
    except OSError:
        return False
    try:
        _lock(descriptor, shared=True)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


if sys.platform == "win32":

    def _lock(descriptor: int, *, shared: bool = False) -> None:
        import msvcrt

        del shared
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:

    def _lock(descriptor: int, *, shared: bool = False) -> None:
        import fcntl

        # Not flock: a forked process would keep its lock after this one is killed.
        fcntl.lockf(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


class HeldFolder:
    """The folder of a running run, identified by a file descriptor and not only by its name.

    Windows has no descriptors of folders, and does not allow a folder with open files to be moved. On Windows, the
    folder is identified by its name.

    Attributes:
        path: the latest known path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._closed = os.name != "posix"

    def check(self) -> None:
        """Check that the folder is still at its path. The first call opens it.

        Raises:
            FolderMovedError: it was moved, deleted, or replaced by another folder.
        """
        if self._closed:
            return
        try:
            here = self.path.stat()
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if os.path.samestat(here, os.fstat(self._descriptor)):
                return
        except (FileNotFoundError, NotADirectoryError):
            pass
        raise FolderMovedError(self.path, self._found())

    def close(self) -> None:
        """Close the descriptor, and rely on the name from now on."""
        self._closed = True
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _found(self) -> Path | None:
        """Return the current path of the folder, if the system knows it."""
        if self._descriptor is None:
            return None
        try:
            path = _path_of(self._descriptor)
            if not os.path.samestat(path.stat(), os.fstat(self._descriptor)):
                return None
        except OSError:
            return None
        here = Path.cwd()
        return path.relative_to(here) if path.is_relative_to(here) and path != here else path


def _path_of(descriptor: int) -> Path:
    if sys.platform == "darwin":
        import fcntl

        return Path(os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0")))
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def set_aside(folder: RunFolder, checkpoint: Path | None) -> list[Path]:
    """Move checkpoints newer than `checkpoint` aside: damaged ones, and those of an abandoned continuation.

    Otherwise the next resume would find them.

    Returns:
        Their new paths.
    """
    moved = []
    for path in sorted(folder.checkpoints.glob("step-*")):
        if checkpoint is None or path.name > checkpoint.name:
            target = folder.checkpoints / ASIDE / path.name
            number = 1
            while target.exists():
                number += 1
                target = target.with_name(f"{path.name}-{number}")
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
            moved.append(target)
    return moved


def recover_models(folder: RunFolder) -> None:
    """Restore models that a kill left between two renames, and remove unfinished ones."""
    for leftover in folder.checkpoints.glob(".step-*.new"):
        shutil.rmtree(leftover, ignore_errors=True)
    for name in ("best", "export"):
        recover_dir(folder.path / name)


def exported_epoch(folder: RunFolder) -> int | None:
    """Return the epoch after which the model in `export` was written, or None."""
    try:
        return int(read_json(folder.path / "export" / "aip.json")["epoch"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
