"""Worker processes: started when first needed, kept for the whole run, answering in the order they were asked."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any, Literal

from aipcore.data.crew import Call, Crew
from aipcore.data.worker_process import Failure, Job
from aipcore.errors import TRACEBACK, DataError

MOST = 16
"""Workers that are started at most if nobody says how many."""


class WorkerTraceback(Exception):  # noqa: N818 - no error of ours, but what a worker said of its own
    """The traceback of an error in a worker, which cannot come here as an object."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class UnshippableError(DataError):
    """Processors or data cannot be sent to worker processes."""


class Workers:
    """The worker processes of a run.

    Args:
        wanted: how many; auto: one for each core this process may use.
        buffer_bytes: most bytes of results that are made ahead; at least one is.
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
        """Starts the workers if that is to be done, and sends them a job, which they keep until `forget`.

        Raises:
            UnshippableError: it cannot be pickled, or the workers cannot load it.
        """
        crew = self._started()
        try:
            number = crew.send_job(job)
        except Exception as error:
            raise UnshippableError(
                f"What the workers need cannot be pickled ({type(error).__name__}: {' '.join(str(error).split())}): "
                "open files and make locks when they are first used, not in constructors, or set --data.workers 0."
            ) from error
        call = crew.send(number, None)
        crew.wait(call)
        if isinstance(call.value, Failure) and call.value.loading:
            raise UnshippableError(
                f"A worker process cannot load what it needs ({call.value.message}): make it importable, or set "
                "--data.workers 0."
            ) from WorkerTraceback(call.value.trace)

    def stream(
        self, job: Job, tasks: Iterable[Any], nbytes: Callable[[Any], float] = lambda _: 0.0
    ) -> Generator[Any, None, None]:
        """The answers to tasks of a job, in their order; some are worked on ahead.

        Args:
            job: what was prepared.
            tasks: what to do; None is no task.
            nbytes: about how many bytes the answer to a task has.

        Raises:
            AipError: the job raised it, and the answers before were yielded.
            DataError: the job raised anything else, or a worker died.
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
                yield _result(call.value)
        finally:
            for call in ahead:
                crew.cancel(call)

    def filled(self) -> tuple[int, int]:
        """How many answers of the current stream are ready, and how many are under way or ready."""
        calls = list(self._calls)
        if self._crew is not None:
            self._crew.look()
        return sum(call.done for call in calls), len(calls)

    def forget(self, job: Job) -> None:
        """Has the workers drop a job, and the memory that it takes."""
        if self._crew is not None:
            self._crew.forget(job)

    def processes(self) -> list[int]:
        """The process ids of the workers that run."""
        return [] if self._crew is None else [process.pid for process in self._crew.processes]

    def close(self) -> None:
        """Ends the workers; they are started again if they are needed again."""
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
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _unusable() -> str:
    """Why there can be no workers, or an empty text."""
    if multiprocessing.current_process().daemon:
        return "this process is daemonic"
    if sys.platform == "win32":
        return "Windows lacks what they need"
    if not sys.executable:
        return "the Python program is not known"
    return ""


def _result(value: Any) -> Any:
    if not isinstance(value, Failure):
        return value
    trace = WorkerTraceback(value.trace)
    if value.kind is not None:
        raise value.kind(value.message) from trace
    raise DataError(f"A worker process failed in a way it should not ({value.message}) {TRACEBACK}.") from trace
