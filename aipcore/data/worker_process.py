"""The main loop of a worker process, and its shared memory."""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import pickle
import select
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from aipcore.data.pickling import dump_any
from aipcore.data.shared_memory import descriptor_of, make_descriptor
from aipcore.errors import TRACEBACK, AipError, DataError, author_error
from aipcore.logs import captured_messages
from aipcore.streams import guarded_output

SMALLEST = 2**16
ALIGNMENT = 64

START = 8
"""Offset of the object. The first byte is 1 if the result is no longer wanted."""

Dump = Callable[[Any, Callable[[pickle.PickleBuffer], object]], bytes]


def plain_dump(value: Any, keep: Callable[[pickle.PickleBuffer], object]) -> bytes:
    """Return the pickle of a value; `keep` receives each array in it."""
    return pickle.dumps(value, protocol=5, buffer_callback=keep)


class Area:
    """Shared memory behind a file descriptor, for objects of any size."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._map: mmap.mmap | None = None

    @classmethod
    def make(cls) -> Area:
        """Return a new, empty area."""
        return cls(make_descriptor())

    def view(self, size: int) -> memoryview:
        """Return a view of at least the first `size` bytes; the area grows as needed."""
        if self._map is None or len(self._map) < size:
            room = os.fstat(self.descriptor).st_size
            if room < size:
                room = max(SMALLEST, 1 << (size - 1).bit_length())
                os.ftruncate(self.descriptor, room)
            # Arrays may still use the old map, which is freed with them.
            self._map = mmap.mmap(self.descriptor, room)
        return memoryview(self._map)

    @property
    def cancelled(self) -> bool:
        """True if the result to be written is no longer wanted."""
        return bool(self.view(START)[0])

    @cancelled.setter
    def cancelled(self, value: bool) -> None:
        self.view(START)[0] = value

    def close(self) -> None:
        """Close the descriptor. Arrays read without copying stay valid."""
        self._map = None
        os.close(self.descriptor)

    def write(self, value: Any, *, dump: Dump = plain_dump, shared: list[int] | None = None) -> int:
        """Write an object.

        Args:
            value: the object.
            dump: pickles it.
            shared: receives the descriptors of arrays in shared memory, in place of a copy of the arrays.

        Returns:
            size of the area in bytes.
        """
        buffers: list[pickle.PickleBuffer] = []
        body = dump(value, buffers.append)
        raw = [buffer.raw() for buffer in buffers]
        sizes = [len(body), *(each.nbytes for each in raw)]
        if shared is not None:
            descriptors = [descriptor_of(each.obj) for each in raw]
            for at, descriptor in enumerate(descriptors):
                if descriptor is not None and len(shared) < MOST_SHARED:
                    shared.append(descriptor)
                    sizes[at + 1], raw[at] = -raw[at].nbytes, memoryview(b"")
        head = struct.pack(f"<{len(sizes) + 1}q", len(sizes), *sizes)
        places, end = _places(START + len(head), sizes)
        view = self.view(end)
        view[START : START + len(head)] = head
        for place, each in zip(places, (memoryview(body), *raw), strict=True):
            view[place : place + each.nbytes] = each
        for buffer in buffers:
            buffer.release()
        return end

    def read(self, *, copy: bool, shared: Sequence[int] = ()) -> Any:
        """Return the last written object.

        Args:
            copy: True to copy its arrays; False for read-only views of the area.
            shared: the descriptors of its arrays in shared memory, which are closed.
        """
        (count,) = struct.unpack_from("<q", self.view(START + 8), START)
        start = START + (count + 1) * 8
        sizes = struct.unpack_from(f"<{count}q", self.view(start), START + 8)
        places, end = _places(start, sizes)
        view = self.view(end)
        following = iter(shared)
        parts = [
            view[place : place + size] if size >= 0 else _mapped(next(following), -size)
            for place, size in zip(places, sizes, strict=True)
        ]
        return pickle.loads(parts[0], buffers=[bytearray(each) if copy else each.toreadonly() for each in parts[1:]])


def _mapped(descriptor: int, size: int) -> memoryview:
    try:
        return memoryview(mmap.mmap(descriptor, size))
    finally:
        os.close(descriptor)


def _places(start: int, sizes: Any) -> tuple[list[int], int]:
    places = []
    for size in sizes:
        start = -(-start // ALIGNMENT) * ALIGNMENT
        places.append(start)
        start += max(size, 0)
    return places, start


TASK = struct.Struct("<3q")
"""A task: its number, its area and its job. A result: the number, the area, and the bytes written there."""

CONTROL = struct.Struct("<2q")
"""The number of a job, then 1 if the descriptors of its area and of its arrays follow, or 0 to remove the job."""

MOST_SHARED = 200
"""The most shared arrays of a job. Linux passes at most 253 descriptors with a message."""

KEPT_BLOCK = 24 * 2**20
"""Bytes. The limit of glibc is 32 MiB."""


Job = Callable[..., Any]
"""A function sent to each worker once; its tasks are the arguments of its calls."""


@attrs.frozen(kw_only=True)
class Failure:
    """An error in place of a result.

    Attributes:
        kind: the class of the error if it is from `aipcore`, else None.
        message: the text of the error.
        trace: the worker's traceback.
        loading: True if the job could not be loaded.
    """

    kind: type[AipError] | None
    message: str
    trace: str
    loading: bool = False


@attrs.frozen
class Logged:
    """A result with the messages logged while it was computed: tuples of logger name, level and text."""

    answer: Any
    messages: list[tuple[str, int, str]]

    def log(self) -> Any:
        """Log the messages in this process, and return the result."""
        for name, level, text in self.messages:
            logger = logging.getLogger(name)
            if logger.isEnabledFor(level):
                logger.handle(logger.makeRecord(name, level, "a worker process", 0, text, (), None))
        return self.answer


class _Messages(logging.Handler):
    """A handler that holds messages until the next result."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._kept.append((record.name, record.levelno, self.format(record)))
        except Exception:
            self.handleError(record)

    def with_messages(self, answer: Any) -> Any:
        """Return the result, as a `Logged` if there are messages."""
        kept, self._kept = self._kept, []
        return Logged(answer, kept) if kept else answer


def main() -> None:
    """Run until the parent process ends or closes the pipe.

    The arguments are the parent's process id, its log level, and descriptors.
    """
    parent, level, tasks, life, answers, *areas = (int(word) for word in sys.argv[1].split(","))
    # Its own process group receives no Ctrl-C; a SIGINT sent directly is ignored too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with(parent, life)
    _keep_freed_memory()
    messages = _Messages()
    logging.getLogger().addHandler(messages)
    ends = contextlib.suppress(BrokenPipeError, ConnectionResetError)
    # The output of a processor may have no reader.
    with guarded_output(optional=True), captured_messages(level), ends:
        _Worker(tasks, answers, areas, messages).work()
    _end()


def _keep_freed_memory() -> None:
    """Make the C library keep the memory of freed arrays for the next sample.

    glibc returns large blocks to the system until one of that size has been freed once. Without this, the arrays of
    each sample cause page faults again: an eighth of the time of a sample with arrays of 160 kB.
    """
    block = bytearray(KEPT_BLOCK)
    del block


class _Worker:
    def __init__(self, tasks: int, answers: int, areas: list[int], messages: _Messages) -> None:
        self._messages = messages
        self._tasks = tasks
        self._socket = socket.socket(fileno=answers)
        self._areas = [Area(descriptor) for descriptor in areas]
        self._jobs: dict[int, Job | Failure] = {}

    def work(self) -> None:
        # Messages are written in one piece and have a fixed size, so that a reader gets a whole one.
        while message := os.read(self._tasks, TASK.size):
            number, place, job = TASK.unpack(message)
            area = self._areas[place]
            size = 0 if area.cancelled else self._answer(area, self._job(job))
            self._socket.sendall(TASK.pack(number, place, size))

    def _answer(self, area: Area, job: Job | Failure) -> int:
        answer: Any = job
        if not isinstance(job, Failure):
            try:
                task = area.read(copy=True)
                answer = None if task is None else job(*task)
            except Exception as error:
                answer = _failure(error)
        try:
            return area.write(self._messages.with_messages(answer), dump=dump_any)
        except Exception as error:
            return area.write(_failure(error), dump=dump_any)

    def _job(self, number: int) -> Job | Failure:
        while number not in self._jobs or select.select([self._socket], [], [], 0)[0]:
            message, descriptors, *_ = socket.recv_fds(self._socket, CONTROL.size, 1 + MOST_SHARED)
            if not message:
                _end()
            about, comes = CONTROL.unpack(message)
            if not comes:
                self._jobs.pop(about, None)
                continue
            area = Area(descriptors[0])
            try:
                self._jobs[about] = area.read(copy=False, shared=descriptors[1:])
            except Exception as error:
                self._jobs[about] = _failure(error, loading=True)
            finally:
                area.close()
        return self._jobs[number]


def result_of(answer: Any) -> Any:
    """Return a result.

    Raises:
        AipError: raised by the job.
        DataError: the job raised another error.
    """
    if not isinstance(answer, Failure):
        return answer
    trace = WorkerTraceback(answer.trace)
    if answer.kind is not None:
        raise answer.kind(answer.message) from trace
    raise DataError(f"A worker process failed unexpectedly ({answer.message}). {TRACEBACK}") from trace


def _failure(error: Exception, *, loading: bool = False) -> Failure:
    trace = "".join(traceback.format_exception(error))
    error = author_error(error) or error
    own = isinstance(error, AipError) and type(error).__module__.startswith("aipcore.")
    return Failure(
        kind=type(error) if own else None,  # type: ignore[arg-type]
        message=str(error) if own else f"{type(error).__name__}: {' '.join(str(error).split())}",
        trace=trace,
        loading=loading,
    )


def _end_with(parent: int, life: int) -> None:
    """Make this process end with its parent, even in the middle of its work."""
    # Imported here because systems without fcntl also import this module.
    import fcntl

    if hasattr(fcntl, "F_SETOWN") and hasattr(os, "O_ASYNC"):
        # The system ends this process when the pipe closes, even within code that never lets other threads run.
        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)

    def watch() -> None:
        while not select.select([life], [], [], 1)[0]:
            # Another child of the parent may hold a copy of the pipe.
            if os.getppid() != parent:
                break
        _end()

    threading.Thread(target=watch, name="aip-watch", daemon=True).start()


def _end() -> None:
    # The author's output is flushed; the author's threads are not awaited.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(0)


class WorkerTraceback(Exception):  # noqa: N818 - the traceback of another error, not an error class
    """The traceback of an error in a worker, as text: the error object itself cannot be sent."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"
