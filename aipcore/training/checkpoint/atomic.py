"""Atomic writes of files and folders: readers see the old or the new version, even after a kill at any moment.

Where the system can exchange two folders in one step (Linux), a replaced folder exists at every moment. Elsewhere,
between two renames, only `.NAME.old` exists; `recover_dir` restores it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from aipcore.files import no_follow

RENAME_EXCHANGE = 2
AT_FDCWD = -100


@contextmanager
def replaced_dir(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` to write into, and replace `path` with it at the end.

    If the body raises, `path` stays as it was and the unfinished folder is removed. The parent folder of `path` must
    exist. If it is moved while the body runs, it is not created again.

    Raises:
        OSError: the parent folder of `path` does not exist, or was moved.
    """
    recover_dir(path)
    fresh, old = _beside(path)
    fresh.mkdir()
    made = fresh.stat()
    try:
        yield fresh
        if not os.path.samestat(made, fresh.stat()):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(fresh))
        sync_tree(fresh)
        if not path.exists():
            fresh.rename(path)
        elif not _exchange(fresh, path):
            path.rename(old)
            fresh.rename(path)
        sync_dir(path.parent)
    except BaseException:
        if not path.exists() and old.exists():
            old.rename(path)
        # TensorFlow creates all parent folders of a file that it writes, even in place of a folder that was moved.
        is_other = fresh.exists() and not os.path.samestat(made, fresh.stat())
        shutil.rmtree(fresh, ignore_errors=True)
        if is_other:
            with suppress(OSError):
                path.parent.rmdir()
        raise
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)


def recover_dir(path: Path) -> None:
    """Remove the leftovers of a kill in `replaced_dir`. Restore the old folder if `path` is missing."""
    fresh, old = _beside(path)
    if old.exists() and not path.exists():
        old.rename(path)
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)


def write_file(path: Path, text: str, *, flush: bool = True) -> None:
    """Replace a text file atomically: a kill leaves the old or the new file.

    Args:
        path: the file.
        text: its new content.
        flush: if False, a power failure may leave a damaged file. This is much faster.

    Raises:
        OSError: the disk is full or not writable; the old file is untouched.
    """
    fresh = path.with_name(f".{path.name}.new")
    try:
        # A leftover of a kill, or a link planted by someone else.
        fresh.unlink(missing_ok=True)
        with open(fresh, "x", encoding="utf-8", opener=no_follow) as file:
            file.write(text)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        fresh.replace(path)
        if flush:
            sync_dir(path.parent)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def sync_tree(path: Path) -> None:
    """Flush all files below `path` to disk."""
    for entry in path.rglob("*"):
        if entry.is_file():
            descriptor = os.open(entry, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        else:
            sync_dir(entry)
    sync_dir(path)


def sync_dir(path: Path) -> None:
    """Flush the names in a folder to disk."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(path: Path) -> tuple[Path, Path]:
    return path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two paths in one step; return False if the system or file system cannot."""
    function = _renameat2()
    if function is None:
        return False
    if function(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(other))


@cache
def _renameat2() -> Any:
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return function
