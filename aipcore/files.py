"""Files and folders that a stranger may have prepared: opened without following links, and read within limits.

Everything that is wrong with a file is an `OSError` whose `strerror` completes "FILE cannot be read (...)".
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from pathlib import Path
from typing import Any, BinaryIO

from aipcore.errors import UsageError

# Windows has none of these, and needs O_BINARY.
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
_COMMON = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

MEBIBYTE = 2**20

RECORD_BYTES = 4 * MEBIBYTE
"""Most bytes of a file of parameters, of `run.json`, `aip.json` and the like."""

MANIFEST_BYTES = 16 * MEBIBYTE
"""Most bytes of the manifest of a checkpoint, which names every variable."""

_UNUSED = re.compile(r"(.*/)?wandb/[^/]+/logs/debug-core\.log")
"""W&B's link to its own log in the cache of the user. Each start of W&B makes a new folder, so no old one is used."""

PROGRESS_BYTES = 64 * MEBIBYTE
"""Most bytes of `progress.json`, which holds a row for each epoch of the run and of callbacks."""


def open_regular(path: Path, *, limit: int | None = None, follow: bool = True) -> BinaryIO:
    """Open a regular file for reading. A pipe, a device or a socket is refused before anything waits for it.

    Args:
        path: of the file.
        limit: most bytes that the file may have, None for any number.
        follow: whether `path` may be a symbolic link.

    Raises:
        OSError: it is missing, not a regular file, larger than `limit`, or a link.
    """
    descriptor = _opened(path, os.O_RDONLY | _NO_WAIT | _COMMON | (0 if follow else _NO_FOLLOW))
    size = os.fstat(descriptor).st_size
    if limit is not None and size > limit:
        os.close(descriptor)
        raise OSError(errno.EFBIG, f"it has {size:,} bytes, more than the {limit:,} that are read", str(path))
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, *, limit: int, follow: bool = True) -> bytes:
    """Read a regular file whole. See `open_regular`.

    Raises:
        OSError: see `open_regular`.
    """
    with open_regular(path, limit=limit, follow=follow) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it has more than the {limit:,} bytes that are read", str(path))
    return content


def read_text(path: Path, *, limit: int = RECORD_BYTES, follow: bool = True) -> str:
    """Read a regular file of UTF-8 text whole. See `open_regular`.

    Raises:
        OSError: see `open_regular`.
        UnicodeDecodeError: it is not UTF-8.
    """
    return read_bytes(path, limit=limit, follow=follow).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path, *, limit: int = RECORD_BYTES, follow: bool = True) -> Any:
    """Read a regular file of JSON. See `open_regular`.

    Raises:
        OSError: see `open_regular`.
        ValueError: it is not valid JSON, or nested too deeply.
    """
    try:
        return json.loads(read_bytes(path, limit=limit, follow=follow))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def expanded(path: str) -> Path:
    """Return a path whose `~` or `~user` is replaced, as a shell does it: only if there is such a user."""
    try:
        return Path(path).expanduser()
    except (RuntimeError, ValueError):  # No such user, or a text that cannot be a name.
        return Path(path)


def read_limit() -> int:
    """Return the most bytes that the arrays of one file may unpack to, unless the file itself holds as many.

    Raises:
        UsageError: the environment variable AIP_READ_GIB is not a number above 0.
    """
    text = os.environ.get("AIP_READ_GIB", "2")
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not 0 < limit < 2**30:
        raise UsageError(f"AIP_READ_GIB is {text!r}. Set it to a number of GiB above 0, or unset it.")
    return round(limit * 2**30)


def no_follow(path: str, flags: int) -> int:
    """Open a file for writing, but not through a link: the `opener` of every file that aip writes in a run.

    A file with another name somewhere, a hard link, is not written either: it would change there too.

    Raises:
        OSError: it is a link or not a regular file, or cannot be opened.
    """
    truncates = flags & os.O_TRUNC
    descriptor = _opened(Path(path), (flags & ~os.O_TRUNC) | _NO_FOLLOW | _NO_WAIT | _COMMON)
    if os.fstat(descriptor).st_nlink > 1:
        os.close(descriptor)
        raise OSError(errno.EMLINK, "it is a hard link, and writing would change its other name", path)
    if truncates:
        os.ftruncate(descriptor, 0)
    return descriptor


def _opened(path: Path, flags: int) -> int:
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP and path.is_symlink():
            raise OSError(errno.ELOOP, "it is a symbolic link", str(path)) from None
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return descriptor


def refuse_links(folder: Path, *, reading: bool = False) -> None:
    """Refuse a folder that holds anything through which a run would write outside of it, or wait for ever.

    The folder itself may be a link, since the user named it. A link in a subfolder may lead to what lies beside it, as
    `wandb/latest-run` does.

    Args:
        folder: of a run or a model.
        reading: whether it is only read, so that links may lead to any regular file or folder.

    Raises:
        UsageError: it holds another link, a pipe, a device or a socket, or a subfolder that cannot be read.
    """
    top = os.fspath(folder)
    pending = [top]
    while pending:
        here = pending.pop()
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    if reading and entry.is_symlink() and (entry.is_file() or entry.is_dir()):
                        continue
                    refuse_link(folder, entry, may_stay=here != top)
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except FileNotFoundError:
            # A checkpoint that the process that has the lock removes at this moment.
            continue
        except OSError as error:
            raise UsageError(f"{here} cannot be read ({error.strerror}). Fix its permissions.") from error


def refuse_link(folder: Path, entry: os.DirEntry[str], *, may_stay: bool = False) -> None:
    """Refuse an entry of a folder that is neither a regular file nor a folder.

    Args:
        folder: what the error calls the whole.
        entry: what lies in it.
        may_stay: whether the entry may be a link to what lies beside or below it.

    Raises:
        UsageError: it is another link, a pipe, a device or a socket.
    """
    name = os.path.relpath(entry.path, folder)
    if entry.is_symlink():
        link = Path(entry.path)
        beside = may_stay and link.resolve().is_relative_to(link.parent.resolve())
        if not beside and not _UNUSED.fullmatch(name):
            raise UsageError(
                f"{folder} holds the symbolic link {name} to {link.readlink()}. aip does not write through "
                "links: remove it, or put what it leads to in its place."
            )
    elif not entry.is_dir(follow_symlinks=False) and not entry.is_file(follow_symlinks=False):
        raise UsageError(f"{folder} holds {name}, which is neither a regular file nor a folder. Remove it.")
