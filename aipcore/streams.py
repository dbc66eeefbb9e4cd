"""Output that may fail: the streams of the process, and the files that a run adds lines to."""

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
"""Most bytes of lines that wait for room on the disk."""


class OutputError(AipError):
    """The standard output cannot be written.

    Attributes:
        closed_pipe: whether the reader has ended, which is not worth a message.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"The output cannot be written ({error.strerror}).")
        self.closed_pipe = error.errno == errno.EPIPE


class _Descriptor(io.FileIO):
    """The raw layer of a standard stream. After the first error the descriptor leads to the null device.

    So neither native code, nor worker processes, nor Python at its end meet the error again.

    Attributes:
        optional: whether the process may go on without its output.
        error: what was lost by, or None.
    """

    def __init__(self, descriptor: int, *, optional: bool, closed: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.name = {1: "<stdout>", 2: "<stderr>"}[descriptor]
        self.optional = optional
        self.error: OSError | None = None
        self._closed_from_start = closed

    def write(self, data: Any) -> int:
        """Write as `FileIO` does, and wait for a reader that is slow where the descriptor itself would not.

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
            print(f"warning: {OutputError(error)} Training goes on without it.", file=sys.stderr, flush=True)  # noqa: T201


_guarded: list[_Descriptor] = []
"""Those of the output and of the error output, while they are guarded."""


@contextmanager
def guarded_output(*, optional: bool = False) -> Iterator[None]:
    """Replace the standard streams by such that fail in one way, or not at all, until the context ends.

    Errors of the error output are ignored. Those of the output are raised as `OutputError` unless it is optional.
    Characters that a stream's encoding lacks are written as escapes. A descriptor that was closed is taken by the null
    device: the next file that is opened would receive what native code prints. Streams that a program or a test put
    in the place of those of the process are left alone.

    Args:
        optional: whether nothing fails if the output cannot be written. See also `make_output_optional`.
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
    """Let the process go on when its output cannot be written: what it does is worth more than what it prints."""
    for raw in _guarded:
        raw.optional = True


def require_output() -> None:
    """Write what is buffered for the output.

    Raises:
        OutputError: the output is not optional, and this or an earlier part of it was lost.
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
            # The lowest free number is this one, since those below it are taken.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            closed.add(descriptor)
    return closed


def _to_null_device(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, descriptor)
    os.close(null)


class LineFile:
    """A file that lines are added to. Lines that it has no room for wait, and are written before the next ones.

    Args:
        path: of the file, which is not opened through a link.
        mode: `a`, or `x` for a file that must not exist.
        failed: is called with the first error of writing.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, mode: str, failed: Callable[[OSError], object]) -> None:
        # No `with`: it is open as long as the run, and wherever its folder is moved to.
        self._file = open(path, f"{mode}b", buffering=0, opener=no_follow)  # noqa: SIM115
        self._failed = failed
        self._has_failed = False
        self._waiting = b""

    def write(self, text: str) -> None:
        """Write lines, and those that wait. An error is passed on once and never raised."""
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
        """Do nothing: lines are written when they are given."""

    def close(self) -> None:
        """Try once more to write what waits, and close the file."""
        self.write("")
        # A network drive may report only here what it could not store.
        with suppress(OSError):
            self._file.close()
