"""Safe access to untrusted files and folders: links are not followed, and reads are limited in size.

Every problem with a file is an `OSError` whose `strerror` completes "FILE cannot be read (...)".
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from aipcore.errors import UsageError

# Windows lacks these flags and needs O_BINARY.
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
_COMMON = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

MEBIBYTE = 2**20

RECORD_BYTES = 4 * MEBIBYTE
"""Maximum size of a record such as a parameter file, `run.json` or `aip.json`, in bytes."""

MANIFEST_BYTES = 16 * MEBIBYTE
"""Maximum size of a checkpoint's manifest, in bytes. It lists all variables."""

_UNUSED = re.compile(r"(.*/)?wandb/[^/]+/logs/debug-core\.log")
"""W&B's link to its log in the user's cache. Each start of W&B makes a new folder, so old links are unused."""

PROGRESS_BYTES = 64 * MEBIBYTE
"""Maximum size of `progress.json`, in bytes. It has a row for each epoch of the run and of callbacks."""


def open_regular(path: Path, *, limit: int | None = None, follow: bool = True) -> BinaryIO:
    """Open a regular file for reading. Pipes, devices and sockets are refused without blocking.

    Args:
        path: path of the file.
        limit: maximum size of the file in bytes; None for no limit.
        follow: if True, `path` may be a symbolic link.

    Raises:
        OSError: the file is missing, not a regular file, larger than `limit`, or a link.
    """
    descriptor = _opened(path, os.O_RDONLY | _NO_WAIT | _COMMON | (0 if follow else _NO_FOLLOW))
    size = os.fstat(descriptor).st_size
    if limit is not None and size > limit:
        os.close(descriptor)
        raise OSError(errno.EFBIG, f"it has {size:,} bytes, more than the limit of {limit:,}", str(path))
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, *, limit: int, follow: bool = True) -> bytes:
    """Read a whole regular file. See `open_regular`.

    Raises:
        OSError: see `open_regular`.
    """
    with open_regular(path, limit=limit, follow=follow) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it has more bytes than the limit of {limit:,}", str(path))
    return content


def read_text(path: Path, *, limit: int = RECORD_BYTES, follow: bool = True) -> str:
    """Read a whole regular file of UTF-8 text. See `open_regular`.

    Raises:
        OSError: see `open_regular`.
        UnicodeDecodeError: the file is not UTF-8.
    """
    return read_bytes(path, limit=limit, follow=follow).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path, *, limit: int = RECORD_BYTES, follow: bool = True) -> Any:
    """Read a regular JSON file. See `open_regular`.

    Raises:
        OSError: see `open_regular`.
        ValueError: the file is not valid JSON, or nested too deeply.
    """
    try:
        return json.loads(read_bytes(path, limit=limit, follow=follow))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return a value of a JSON file if it is a mapping, otherwise an empty one."""
    return value if isinstance(value, Mapping) else {}


def expanded(path: str) -> Path:
    """Expand `~` and `~user` in a path as a shell does. Unknown users are left unchanged."""
    try:
        return Path(path).expanduser()
    except (RuntimeError, ValueError):  # No such user, or a string that cannot be a user name.
        return Path(path)


def shown_path(path: Path) -> str:
    """Return a path as text for messages, relative to the working folder if it is below it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) and path != here else path)


def read_limit() -> int:
    """Return the maximum unpacked size in bytes of the arrays of one file. Larger files may unpack to their own size.

    Raises:
        UsageError: the environment variable AIP_READ_GIB is not a number greater than 0.
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
    """Open a file for writing without following links. The `opener` of all files that aip writes in a run.

    Files with several hard links are refused, since the other names would change too.

    Raises:
        OSError: the file is a link or not a regular file, or cannot be opened.
    """
    truncates = flags & os.O_TRUNC
    descriptor = _opened(Path(path), (flags & ~os.O_TRUNC) | _NO_FOLLOW | _NO_WAIT | _COMMON)
    if os.fstat(descriptor).st_nlink > 1:
        os.close(descriptor)
        raise OSError(errno.EMLINK, "it is a hard link, and writing would also change its other names", path)
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
    """Refuse a folder that contains links out of it, or files on which a run would block.

    The folder itself may be a link, since the user named it. A link in a subfolder may point next to or below itself,
    like `wandb/latest-run`.

    Args:
        folder: folder of a run or a model.
        reading: if True, the folder is only read, so links may point to any regular file or folder.

    Raises:
        UsageError: the folder contains another link, a pipe, a device, a socket or an unreadable subfolder.
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
            # The process that holds the lock has just removed this checkpoint.
            continue
        except OSError as error:
            raise UsageError(f"{here} cannot be read ({error.strerror}). Fix its permissions.") from error


def refuse_link(folder: Path, entry: os.DirEntry[str], *, may_stay: bool = False) -> None:
    """Refuse an entry of a folder that is neither a regular file nor a folder.

    Args:
        folder: the folder, as named in the error.
        entry: the entry of the folder.
        may_stay: if True, links to targets next to or below the entry are allowed.

    Raises:
        UsageError: the entry is another link, a pipe, a device or a socket.
    """
    name = os.path.relpath(entry.path, folder)
    if entry.is_symlink():
        link = Path(entry.path)
        beside = may_stay and link.resolve().is_relative_to(link.parent.resolve())
        if not beside and not _UNUSED.fullmatch(name):
            raise UsageError(
                f"{folder} contains the symbolic link {name} to {link.readlink()}. aip does not write through "
                "links. Remove the link, or replace it with its target."
            )
    elif not entry.is_dir(follow_symlinks=False) and not entry.is_file(follow_symlinks=False):
        raise UsageError(f"{folder} contains {name}, which is neither a regular file nor a folder. Remove it.")
