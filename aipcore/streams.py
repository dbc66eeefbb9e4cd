"""Output that may fail: the standard streams of the process, and the line-based files of a run."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from aipcore.errors import AipError
from aipcore.files import no_follow

MOST_WAITING_BYTES = 2**20
"""Maximum size of the lines that wait for free disk space, in bytes."""


class OutputError(AipError):
    """A failed write to standard output.

    Attributes:
        closed_pipe: True if the reader has exited; no message is needed then.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"The output cannot be written ({error.strerror}).")
        self.closed_pipe = error.errno == errno.EPIPE


class _Descriptor(io.FileIO):
    """The raw layer of a standard stream. After the first error its descriptor points to the null device.

    Native code, worker processes and Python's shutdown therefore do not meet the error again.

    Attributes:
        optional: True if the process may continue without this output.
        error: the first write error, or None.
    """

    def __init__(self, descriptor: int, *, optional: bool, closed: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.name = {1: "<stdout>", 2: "<stderr>"}[descriptor]
        self.optional = optional
        self.error: OSError | None = None
        self._closed_from_start = closed

    def write(self, data: Any) -> int:
        """Write like `FileIO`, and wait for a slow reader of a non-blocking descriptor.

        Raises:
            OutputError: the stream cannot be written and is not optional.
        """
        if self.error is None:
            try:
                return self._write(data)
            except OSError as error:
                self.error = error
                _to_null_device(self.fileno())
                if self.optional and not self._closed_from_start and error.errno != errno.EPIPE:
                    self._tell_other_stream(error)
        if not self.optional:
            raise OutputError(self.error)
        return len(data)

    def _write(self, data: Any) -> int:
        if self._closed_from_start:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        while (count := super().write(data)) is None:
            select.select([], [self], [])
        return count

    def _tell_other_stream(self, error: OSError) -> None:
        if self.fileno() == 1:
            print(f"warning: {OutputError(error)} Training continues without it.", file=sys.stderr, flush=True)  # noqa: T201


_guarded: list[_Descriptor] = []
"""The guarded standard output and error streams."""


@contextmanager
def guarded_output(*, optional: bool = False) -> Iterator[None]:
    """Replace the standard streams with streams that fail in a defined way, until the context ends.

    Errors of standard error are ignored. Errors of standard output are raised as `OutputError`, unless it is optional.
    Characters outside a stream's encoding are written as escapes. Closed descriptors are opened on the null device;
    otherwise the next opened file would receive the output of native code. Streams that were replaced by a program or a
    test are left unchanged.

    Args:
        optional: if True, write errors of standard output are ignored. See also `make_output_optional`.
    """
    before = sys.stdout, sys.stderr
    if os.name != "posix" or before != (sys.__stdout__, sys.__stderr__):
        yield
        return
    closed = _fill_standard_descriptors()
    for descriptor, stream in enumerate(before, start=1):
        if stream is not None:
            stream.flush()
        was_closed = stream is None or descriptor in closed
        _guarded.append(_Descriptor(descriptor, optional=optional or descriptor == 2, closed=was_closed))
    sys.stdout, sys.stderr = (_text(raw, stream) for raw, stream in zip(_guarded, before, strict=True))
    try:
        yield
    finally:
        make_output_optional()
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
        _guarded.clear()


def make_output_optional() -> None:
    """Let the process continue if its output cannot be written: its results matter more than its output."""
    for raw in _guarded:
        raw.optional = True


def require_output() -> None:
    """Flush standard output.

    Raises:
        OutputError: the output is not optional, and some of it was lost.
    """
    sys.stdout.flush()
    for raw in _guarded:
        if raw.error is not None and not raw.optional:
            raise OutputError(raw.error)


def _text(raw: _Descriptor, before: Any) -> io.TextIOWrapper:
    encoding = "utf-8" if before is None else before.encoding
    at_once = raw.isatty() or raw.fileno() == 2 or (before is not None and before.write_through)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=at_once)


def _fill_standard_descriptors() -> set[int]:
    closed = set()
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lower descriptors are taken, so this is the lowest free one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            closed.add(descriptor)
    return closed


def _to_null_device(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, descriptor)
    os.close(null)


class LineFile:
    """A file for appending lines. Lines that do not fit on the disk wait and are written before the next ones.

    Args:
        path: path of the file; links are not followed.
        mode: `a`, or `x` for a new file.
        failed: called with the first write error.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, mode: str, failed: Callable[[OSError], object]) -> None:
        # No `with`: the file stays open for the whole run, even if its folder is moved.
        self._file = open(path, f"{mode}b", buffering=0, opener=no_follow)  # noqa: SIM115
        self._failed = failed
        self._has_failed = False
        self._waiting = b""

    def write(self, text: str) -> None:
        """Write lines, after any waiting ones. The first error is passed to `failed` and never raised."""
        if len(self._waiting) < MOST_WAITING_BYTES:
            self._waiting += text.encode("utf-8", "backslashreplace")
        try:
            while self._waiting:
                self._waiting = self._waiting[self._file.write(self._waiting) :]
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                self._failed(error)

    def flush(self) -> None:
        """Do nothing: lines are written immediately."""

    def close(self) -> None:
        """Try again to write the waiting lines, and close the file."""
        self.write("")
        # A network drive may report a failed write only on close.
        with suppress(OSError):
            self._file.close()
