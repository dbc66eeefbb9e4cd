"""Running worker processes: starting them, sending jobs and tasks, taking answers, ending them."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import attrs

from aipcore.data import shipping
from aipcore.data.shared import Area
from aipcore.data.worker_process import CONTROL, TASK, Job, Logged
from aipcore.errors import DataError

AREAS = 6
"""Tasks under way for each worker, at most."""

PATIENCE = 0.5
"""Seconds that workers have to end by themselves."""

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""What keeps numeric libraries from starting a thread for each core in each of the workers."""

CODE = "import sys; sys.path[:] = sys.argv[2:]; from aipcore.data.worker_process import main; main()"


@attrs.define(eq=False)
class Call:
    """A task under way.

    Attributes:
        expected: about how many bytes the answer has.
        area: where it is.
        done: whether the answer came.
        cancelled: whether nobody waits for it.
        value: the answer.
        size: its bytes.
    """

    expected: float
    area: int
    done: bool = False
    cancelled: bool = False
    value: Any = None
    size: int = 0


class Crew:
    """Some worker processes.

    Each task and its answer lie in one of a fixed number of shared areas; pipes and sockets carry numbers only. Answers
    are copied out of the areas as they are noticed, so that no one who waits for others blocks these.
    """

    def __init__(self, count: int) -> None:
        self.closed = False
        self.processes: list[subprocess.Popen[bytes]] = []
        self.room = AREAS * count
        self._lock = threading.RLock()
        self._owner = os.getpid()
        self._areas = [Area.make() for _ in range(self.room)]
        # The last one given back is used next, so that few areas grow large if few are used.
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
        environment = {
            **dict.fromkeys(ONE_THREAD, "1"),
            **os.environ,
            # A processor that uses TensorFlow must not take the memory of the device that trains.
            "CUDA_VISIBLE_DEVICES": "-1",
        }
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
        """Sends a job to all workers, unless they have it, and returns its number."""
        with self._lock:
            if id(job) in self._jobs:
                return self._jobs[id(job)][0]
            area = Area.make()
            try:
                area.write(job, dump=shipping.dump)
                self._number += 1
                for each in self._sockets:
                    socket.send_fds(each, [CONTROL.pack(self._number, 1)], [area.descriptor])
            finally:
                area.close()
            self._jobs[id(job)] = self._number, job
            return self._number

    def forget(self, job: Job) -> None:
        """Has the workers drop a job."""
        with self._lock:
            if self.closed or id(job) not in self._jobs:
                return
            number, _ = self._jobs.pop(id(job))
            for each in self._sockets:
                each.sendall(CONTROL.pack(number, 0))

    def send(self, job: int, task: Any, expected: float = 0.0) -> Call:
        """Hands a task to whichever worker is free first."""
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
            os.write(self._tasks, TASK.pack(self._number, call.area, job))
            return call

    def wait(self, call: Call) -> None:
        """Returns when the answer is there.

        Raises:
            DataError: a worker ended.
        """
        while not call.done:
            with self._lock:
                if not call.done:
                    self._receive(None)

    def look(self) -> None:
        """Takes the answers that are there."""
        if self._lock.acquire(blocking=False):
            try:
                self._receive(0)
            finally:
                self._lock.release()

    def cancel(self, call: Call) -> None:
        """Gives a task up; a worker that has begun with it finishes it."""
        with self._lock:
            call.cancelled = True
            if not call.done and not self.closed:
                self._areas[call.area].cancelled = True

    def close(self) -> None:
        """Ends the processes: those that have nothing to do at once, all others soon."""
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
        # Who reads the end of the tasks ends with its output written; who is busy is ended by the other pipe.
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
            raise DataError("The worker processes were ended while their results were waited for.")

    def _ended(self, index: int) -> DataError:
        process = self.processes[index]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        code = process.returncode
        self.close()
        how = f"exit code {code}"
        if code is not None and code < 0:
            how = f"signal {signal.Signals(-code).name}"
        hint = ", often for lack of memory" if code == -signal.SIGKILL else ""
        return DataError(
            f"A worker process of the data pipeline ended by itself ({how}{hint}): see what it printed above, or set "
            "--data.workers 0 to find the cause in this process."
        )
