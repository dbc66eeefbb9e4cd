"""Background jobs that contact other machines, run one by one in a thread so that training does not wait."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from aipcore.errors import AipError

logger = logging.getLogger("aipcore.callbacks")

Job = Callable[[], object]


class Background:
    """A thread that runs jobs in order.

    A failing job causes one warning; after a success, a further failure warns again. With `retry`, a failed job stays
    first in the queue, and is tried again with the next job and at the end. Without it, the job is dropped.

    Attributes:
        what: the name of the jobs' target in the warning: "The webhook".

    Args:
        what: see above.
        retry: True to try failed jobs again.
    """

    def __init__(self, what: str, *, retry: bool) -> None:
        self.what = what
        self._retry = retry
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._wanted = False
        self._busy = False
        self._closed = False
        self._failing = False

    def submit(self, job: Job) -> None:
        """Add a job and return immediately."""
        with self._changed:
            if self._closed:
                return
            self._jobs.append(job)
            self._wanted = True
            if self._thread is None:
                # A daemon thread, so that an unresponsive machine cannot keep the process from ending.
                self._thread = threading.Thread(target=self._work, name="aip callback", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self, seconds: float) -> int:
        """Wait up to `seconds` for the jobs, trying failed ones again, and drop those that are unfinished.

        A job that is running then cannot be stopped, but none starts after it.

        Returns:
            the number of unfinished jobs.
        """
        with self._changed:
            self._closed = True
            self._wanted = bool(self._jobs)
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._wanted and not self._busy, seconds)
            unfinished = len(self._jobs)
            self._jobs.clear()
            return unfinished

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._closed)
                if not self._wanted:
                    return
                self._wanted = False
                self._busy = True
            try:
                self._do_jobs()
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _do_jobs(self) -> None:
        while (job := self._first()) is not None:
            try:
                job()
            except Exception as error:
                self._warn(error)
                if self._retry:
                    return
            else:
                if self._failing and self._retry:
                    logger.info("%s works again.", self.what)
                self._failing = False
            with self._changed:
                if self._jobs and self._jobs[0] is job:
                    self._jobs.popleft()

    def _first(self) -> Job | None:
        with self._changed:
            return self._jobs[0] if self._jobs else None

    def _warn(self, error: Exception) -> None:
        if self._failing:
            return
        self._failing = True
        then = "It is retried after each epoch" if self._retry else "The message is dropped"
        kind = "" if isinstance(error, AipError) else f"{type(error).__name__}: "
        reason = " ".join(str(error).split())[:300]
        logger.warning("%s failed (%s%s). %s, and training continues.", self.what, kind, reason, then)
