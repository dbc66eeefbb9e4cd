"""Whether work on samples is done here or by workers: what it takes, measured, against what passing it on takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any

import attrs

from aipcore.data.shared import Area
from aipcore.data.worker_process import Job
from aipcore.data.workers import UnshippableError, Workers
from aipcore.params.names import count

MEASURED = 64
"""Samples that are timed."""

LONGEST = 0.25
"""Seconds after which no further samples are timed."""

TASK_SECONDS = 0.03
"""How long a task should take: long against the passing on, short against the patience of who presses Ctrl-C."""

LARGEST = 64
"""Samples in a task."""

GAIN = 4.0
"""How many times longer than passing a sample on it must take to make it, for workers to be chosen."""

SHORTEST = 0.5
"""Seconds of work below which starting workers costs more than it brings."""

PASSED = 100e-6
"""Seconds that handing over a task takes beside copying."""


@attrs.frozen(kw_only=True)
class Choice:
    """Who does the work.

    Attributes:
        workers: how many, 0: this process.
        task: samples in a task for them.
        reason: in words, for the plan.
    """

    workers: int
    task: int
    reason: str


@attrs.frozen(kw_only=True)
class Timing:
    """What a sample takes.

    Attributes:
        seconds: to make it.
        passing: seconds that its way through shared memory takes.
        nbytes: what it takes there.
    """

    seconds: float
    passing: float
    nbytes: float


def measure(do: Callable[[range], Any], total: int) -> Generator[Any, None, Timing]:
    """Times the first samples.

    Args:
        do: makes those of some indices.
        total: how many samples there are.

    Yields:
        what it made of the first ones.
    """
    count, taken, answer, size = 0, 0.0, None, 1
    for most in (1, 3, 12, 48):
        size = min(most, total - count)
        if not size or taken > LONGEST:
            break
        begun = time.perf_counter()
        answer = do(range(count, count + size))
        taken += time.perf_counter() - begun
        count += size
        last = size
        yield answer
    area = Area.make()
    try:
        begun = time.perf_counter()
        nbytes = area.write(answer)
        area.read(copy=True)
        copied = time.perf_counter() - begun
    except Exception:
        # Rare: objects of classes that only the slower way can pickle.
        copied, nbytes = taken, 0
    finally:
        area.close()
    return Timing(seconds=taken / count, passing=copied / last + PASSED / LARGEST, nbytes=nbytes / last)


def timed(do: Callable[[range], Any], total: int) -> Timing:
    """As `measure`, when nobody needs what it made."""
    answers = measure(do, total)
    while True:
        try:
            next(answers)
        except StopIteration as end:
            found: Timing = end.value
            return found


class Delegation:
    """Has a job done by workers, or here.

    Args:
        workers: who may do it; None: nobody.
        job: what to do.
    """

    def __init__(self, workers: Workers | None, job: Job) -> None:
        self.workers = workers
        self.job = job
        self.choice: Choice | None = None
        self._nbytes = 0.0

    @property
    def possible(self) -> bool:
        """Whether there is a choice."""
        return self.workers is not None and self.workers.count > 0

    def choose(self, timing: Timing | None, total: int) -> Choice:
        """Decides who does it.

        Args:
            timing: what a sample takes; None if there is no choice.
            total: how many samples there are.

        Raises:
            UnshippableError: workers are demanded and cannot do it.
        """
        self.choice = self._chosen(timing, total)
        return self.choice

    def run(self, tasks: Iterable[Any], samples: Callable[[Any], int]) -> Generator[Any, None, None]:
        """The answers to the tasks, in their order, once the choice is made; `samples` counts those of a task."""
        if self.choice is not None and self.choice.workers:
            assert self.workers is not None
            return self.workers.stream(self.job, tasks, lambda task: samples(task) * self._nbytes)
        return (self.job.do(task) for task in tasks)

    def end(self) -> None:
        """The job will not be asked again."""
        if self.workers is not None:
            self.workers.forget(self.job)

    def _chosen(self, timing: Timing | None, total: int) -> Choice:
        workers = self.workers
        if timing is None or workers is None:
            why = workers.unusable if workers is not None else ""
            return Choice(workers=0, task=1, reason=f"in this process, as {why}" if why else "in this process")
        self._nbytes = timing.nbytes
        each = f"{timing.seconds * 1000:.2g} ms a sample"
        task = max(1, min(LARGEST, round(TASK_SECONDS / max(timing.seconds, 1e-9))))
        if workers.auto and (timing.seconds < GAIN * timing.passing or timing.seconds * total < SHORTEST):
            return Choice(workers=0, task=task, reason=f"in this process ({each}: workers would not pay)")
        try:
            workers.prepare(self.job)
        except UnshippableError as error:
            if not workers.auto:
                raise
            return Choice(workers=0, task=task, reason=f"in this process ({str(error).rstrip('.')})")
        return Choice(workers=workers.count, task=task, reason=f"by {count(workers.count, 'worker process')} ({each})")


def for_each(job: Job, total: int, workers: Workers | None) -> Iterator[Any]:
    """What a job makes of each sample, in their order: the first here, the rest by workers if that pays.

    Args:
        job: answers a sequence of indices with a list, one entry for each.
        total: how many samples there are.
        workers: who may do it.
    """
    delegation = Delegation(workers, job)
    if not delegation.possible:
        for index in range(total):
            yield from job.do([index])
        return
    done = 0
    timing = measure(job.do, total)
    while True:
        try:
            answer = next(timing)
        except StopIteration as end:
            found = end.value
            break
        yield from answer
        done += len(answer)
    task = delegation.choose(found, total - done).task
    rest = (range(start, min(start + task, total)) for start in range(done, total, task))
    try:
        with closing(delegation.run(rest, len)) as answers:
            for answer in answers:
                yield from answer
    finally:
        delegation.end()
