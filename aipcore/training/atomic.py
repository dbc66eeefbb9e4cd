"""Writing folders so that a reader, or a kill at any moment, sees the old one or the new one, never half of one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_dir(path: Path) -> Iterator[Path]:
    """Gives an empty folder beside `path` to write into, and puts it in the place of `path` at the end.

    If the body raises, `path` stays as it was and the unfinished folder is removed.
    """
    fresh = path.with_name(f".{path.name}.new")
    old = path.with_name(f".{path.name}.old")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
        sync_tree(fresh)
        if path.exists():
            path.rename(old)
        fresh.rename(path)
        _sync_dir(path.parent)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def sync_tree(path: Path) -> None:
    """Makes sure that all files below `path` are on the disk."""
    for entry in path.rglob("*"):
        if entry.is_file():
            descriptor = os.open(entry, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        else:
            _sync_dir(entry)
    _sync_dir(path)


def _sync_dir(path: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
