"""A pool of worker processes, started on demand and kept for the run, with results in order."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any, Literal

import attrs

from aipcore.data import pickling
from aipcore.data.pickling import UnshippableError
from aipcore.data.worker_process import CONTROL, TASK, Area, Failure, Job, Logged, WorkerTraceback, result_of
from aipcore.errors import DataError

AREAS = 6
"""The most pending tasks per worker."""

PATIENCE = 0.5
"""Seconds for workers to exit on their own."""

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Environment variables that limit numeric libraries to one thread per worker."""

CODE = "import sys; sys.path[:] = sys.argv[2:]; from aipcore.data.worker_process import main; main()"


@attrs.define(eq=False)
class Call:
    """A pending task.

    Attributes:
        expected: estimated size of the result in bytes.
        area: number of the shared memory area.
        done: True once the result has arrived.
        cancelled: True if the result is no longer wanted.
        value: the result.
        size: size of the result in bytes.
    """

    expected: float
    area: int
    done: bool = False
    cancelled: bool = False
    value: Any = None
    size: int = 0


class Crew:
    """A fixed set of worker processes.

    Each task and its result lie in one of a fixed number of shared areas; pipes and sockets carry only numbers. Results
    are copied out of the areas on arrival, so that a caller that waits for another result does not block them.
    """

    def __init__(self, count: int) -> None:
        self.closed = False
        self.processes: list[subprocess.Popen[bytes]] = []
        self.room = AREAS * count
        self._lock = threading.RLock()
        self._owner = os.getpid()
        self._areas = [Area.make() for _ in range(self.room)]
        # The last area freed is used next, so that few areas grow large if few are used.
        self._free = list(range(self.room))
        self._under_way: dict[int, Call] = {}
        self._jobs: dict[int, tuple[int, Job]] = {}
        self._number = 0
        self._sockets: list[socket.socket] = []
        self._lives: list[int] = []
        reading, self._tasks = os.pipe()
        try:
            for _ in range(count):
                self._start(reading)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(reading)

    def _start(self, tasks: int) -> None:
        ours, theirs = socket.socketpair()
        life, alive = os.pipe()
        self._sockets.append(ours)
        self._lives.append(alive)
        descriptors = [tasks, life, theirs.fileno(), *(area.descriptor for area in self._areas)]
        words = ",".join(map(str, [os.getpid(), logging.getLogger().level, *descriptors]))
        # A processor that uses TensorFlow must not take the memory of the training device.
        environment = {**dict.fromkeys(ONE_THREAD, "1"), **os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
        try:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", CODE, words, *sys.path],
                    stdin=subprocess.DEVNULL,
                    pass_fds=descriptors,
                    env=environment,
                    process_group=0,
                )
            )
        finally:
            theirs.close()
            os.close(life)

    def send_job(self, job: Job) -> int:
        """Send a job to all workers, unless they have it, and return its number."""
        with self._lock:
            if id(job) in self._jobs:
                return self._jobs[id(job)][0]
            area, shared = Area.make(), list[int]()
            try:
                area.write(job, dump=pickling.dump, shared=shared)
                self._number += 1
                for index, each in enumerate(self._sockets):
                    try:
                        socket.send_fds(each, [CONTROL.pack(self._number, 1)], [area.descriptor, *shared])
                    except ConnectionError:
                        raise self._ended(index) from None
            finally:
                area.close()
            self._jobs[id(job)] = self._number, job
            return self._number

    def forget(self, job: Job) -> None:
        """Remove a job from the workers."""
        with self._lock:
            if self.closed or id(job) not in self._jobs:
                return
            number, _ = self._jobs.pop(id(job))
            for each in self._sockets:
                # A worker that has ended needs no message. The caller that waits for its result gets the error.
                with contextlib.suppress(ConnectionError):
                    each.sendall(CONTROL.pack(number, 0))

    def send(self, job: int, task: Any, expected: float = 0.0) -> Call:
        """Send a task to the first free worker."""
        with self._lock:
            while not self._free:
                self._receive(None)
            self._check()
            call = Call(expected, self._free.pop())
            area = self._areas[call.area]
            area.cancelled = False
            area.write(task)
            self._number += 1
            self._under_way[self._number] = call
            try:
                os.write(self._tasks, TASK.pack(self._number, call.area, job))
            except BrokenPipeError:
                # All workers have ended.
                raise self._ended(0) from None
            return call

    def wait(self, call: Call) -> None:
        """Wait for the result.

        Raises:
            DataError: a worker ended.
        """
        while not call.done:
            with self._lock:
                if not call.done:
                    self._receive(None)

    def look(self) -> None:
        """Receive the results that have arrived."""
        if self._lock.acquire(blocking=False):
            try:
                self._receive(0)
            finally:
                self._lock.release()

    def cancel(self, call: Call) -> None:
        """Cancel a task. A worker that has already begun finishes it."""
        with self._lock:
            call.cancelled = True
            if not call.done and not self.closed:
                self._areas[call.area].cancelled = True

    def close(self) -> None:
        """Stop the processes: idle ones immediately, busy ones soon after."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            os.close(self._tasks)
            if os.getpid() == self._owner:
                self._end()
            for each in self._sockets:
                each.close()
            for area in self._areas:
                area.close()

    def _end(self) -> None:
        # An idle worker exits at the end of the task pipe, with its output written. The other pipe ends a busy one.
        for call in self._under_way.values():
            self._areas[call.area].cancelled = True
        self._wait(PATIENCE)
        for life in self._lives:
            os.close(life)
        self._wait(PATIENCE)
        for process in self.processes:
            process.kill()
            process.wait()

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))

    def _receive(self, timeout: float | None) -> None:
        self._check()
        for each in select.select(self._sockets, [], [], timeout)[0]:
            message = b""
            while len(message) < TASK.size:
                try:
                    more = each.recv(TASK.size - len(message))
                except ConnectionResetError:
                    more = b""
                if not more:
                    raise self._ended(self._sockets.index(each))
                message += more
            number, place, size = TASK.unpack(message)
            call = self._under_way.pop(number)
            if not call.cancelled:
                value = self._areas[place].read(copy=True)
                call.value = value.log() if isinstance(value, Logged) else value
                call.size = size
            call.done = True
            self._free.append(place)

    def _check(self) -> None:
        if self.closed:
            raise DataError("The worker processes were stopped before their results arrived.")

    def _ended(self, index: int) -> DataError:
        process = self.processes[index]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        code = process.returncode
        self.close()
        how = f"exit code {code}"
        if code is not None and code < 0:
            how = f"signal {signal.Signals(-code).name}"
        hint = ", often caused by a lack of memory" if code == -signal.SIGKILL else ""
        return DataError(
            f"A worker process of the data pipeline ended unexpectedly ({how}{hint}). See its output above, or set "
            "--data.workers 0 to find the cause in this process."
        )


MOST = 16
"""The most workers started if no number is given."""


class WorkerPool:
    """The worker processes of a run.

    Args:
        wanted: number of workers; auto: one for each core available to this process.
        buffer_bytes: the most bytes of prefetched results; at least one result is prefetched.
    """

    def __init__(self, wanted: int | Literal["auto"] = "auto", *, buffer_bytes: int = 2**28) -> None:
        self.auto = wanted == "auto"
        self.buffer_bytes = buffer_bytes
        self.unusable = _unusable() if wanted != 0 else ""
        self.count = 0 if self.unusable or wanted == 0 else min(cores(), MOST) if wanted == "auto" else wanted
        self._lock = threading.Lock()
        self._crew: Crew | None = None
        self._end: weakref.finalize[..., Any] | None = None
        self._calls: deque[Call] = deque()

    def prepare(self, job: Job) -> None:
        """Start the workers if needed, and send them a job, which they keep until `forget`.

        Raises:
            UnshippableError: the job cannot be pickled, or the workers cannot load it.
        """
        crew = self._started()
        try:
            number = crew.send_job(job)
        except DataError:
            raise
        except Exception as error:
            raise UnshippableError(
                f"The data or the processors cannot be pickled ({type(error).__name__}: "
                f"{' '.join(str(error).split())}). Open files and create locks on first use, not in constructors, or "
                "set --data.workers 0."
            ) from error
        call = crew.send(number, None)
        crew.wait(call)
        if isinstance(call.value, Failure) and call.value.loading:
            raise UnshippableError(
                f"A worker process cannot load the data or the processors ({call.value.message}). Make them "
                "importable, or set --data.workers 0."
            ) from WorkerTraceback(call.value.trace)

    def stream(
        self, job: Job, tasks: Iterable[Any], nbytes: Callable[[Any], float] = lambda _: 0.0
    ) -> Generator[Any, None, None]:
        """Yield the results of a job's tasks in order; some tasks run ahead.

        Args:
            job: the prepared job.
            tasks: the arguments of its calls.
            nbytes: estimates the size of a task's result in bytes.

        Raises:
            AipError: raised by the job, after the earlier results were yielded.
            DataError: the job raised another error, or a worker died.
        """
        crew = self._started()
        number = crew.send_job(job)
        ahead: deque[Call] = deque()
        self._calls = ahead
        rest = iter(tasks)
        task = next(rest, None)
        scale = 1.0
        try:
            while True:
                while task is not None and len(ahead) < crew.room:
                    size = nbytes(task)
                    held = sum(call.expected for call in ahead)
                    if ahead and (held + size) * scale > self.buffer_bytes:
                        break
                    ahead.append(crew.send(number, task, size))
                    task = next(rest, None)
                if not ahead:
                    return
                crew.wait(ahead[0])
                call = ahead.popleft()
                if call.expected:
                    scale = max(scale, call.size / call.expected)
                yield result_of(call.value)
        finally:
            for call in ahead:
                crew.cancel(call)

    def filled(self) -> tuple[int, int]:
        """Return the number of ready results of the current stream, and the number of ready or pending ones."""
        calls = list(self._calls)
        if self._crew is not None:
            self._crew.look()
        return sum(call.done for call in calls), len(calls)

    def forget(self, job: Job) -> None:
        """Remove a job from the workers and free its memory."""
        if self._crew is not None:
            self._crew.forget(job)

    def processes(self) -> list[int]:
        """Return the process ids of the running workers."""
        return [] if self._crew is None else [process.pid for process in self._crew.processes]

    def close(self) -> None:
        """Stop the workers. They start again on demand."""
        with self._lock:
            if self._end is not None:
                self._end()
            self._crew = self._end = None

    def _started(self) -> Crew:
        with self._lock:
            if self._crew is not None and self._crew.closed:
                self._crew = None
            if self._crew is None:
                crew = self._crew = Crew(self.count)
                self._end = weakref.finalize(self, crew.close)
            return self._crew


def cores() -> int:
    """Return the number of cores available to this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _unusable() -> str:
    """Return the reason why workers are not available, or an empty text."""
    if multiprocessing.current_process().daemon:
        return "a daemonic process cannot start workers"
    if sys.platform == "win32":
        return "workers are not supported on Windows"
    if not sys.executable:
        return "the path of the Python interpreter is unknown"
    return ""
