"""Parallel processing: the jobs of worker processes, and the measured choice between them and this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from typing import Any

import attrs
import numpy as np

from aipcore.data.batching import Collector, Layout
from aipcore.data.dataset import Rows
from aipcore.data.pickling import UnshippableError
from aipcore.data.processing import Chain, Part, SampleError
from aipcore.data.sample import Sample
from aipcore.data.sampler import Visits
from aipcore.data.sources import Base, Source
from aipcore.data.vectorized import AtOnce, at_once
from aipcore.data.worker_pool import WorkerPool
from aipcore.data.worker_process import Area, Job
from aipcore.params.names import count


@attrs.frozen(kw_only=True, eq=False)
class BatchJob:
    """Makes samples on demand, side by side.

    Attributes:
        base: the samples to start from.
        chain: all processors.
        part: those that run on demand.
        layout: what the samples must look like.
        skips: whether a sample that cannot be made is left out instead of being an error.
    """

    base: Base
    chain: Chain
    part: Part
    layout: Layout
    skips: bool

    @cached_property
    def together(self) -> AtOnce | None:
        """What makes samples as arrays, where that can be done."""
        return at_once(self.base, self.chain, self.part, self.layout)

    def do(self, task: Visits) -> tuple[Rows, list[str]]:
        """The samples, and the errors of those that were left out.

        Raises:
            SampleError: one cannot be made, and is not to be left out.
        """
        if self.together is not None and (rows := self.together.rows(self._counted(task))) is not None:
            return rows, []
        collector = Collector(self.layout, len(task.indices))
        kept = None
        errors: list[str] = []
        pairs = zip(task.indices.tolist(), task.epochs.tolist(), strict=True)
        for number, (index, visit) in enumerate(pairs):
            try:
                collector.add(self.sample(index, visit), index)
            except SampleError as error:
                if not self.skips:
                    raise
                errors.append(str(error))
                kept = np.ones(len(task.indices), bool) if kept is None else kept
                kept[number] = False
        return collector.rows(kept), errors

    def _counted(self, task: Visits) -> Visits:
        return task if self.chain.random else attrs.evolve(task, epochs=np.zeros_like(task.epochs))

    def sample(self, index: int, visit: int) -> Sample:
        """One processed sample.

        Raises:
            SampleError: it cannot be read or processed.
        """
        visit = visit if self.chain.random else 0
        sample, source_index = self.base.get(index)
        return self.chain.run(self.part, sample, index=index, visit=visit, source_index=source_index)


@attrs.frozen(eq=False)
class LengthsJob:
    """Finds the numbers of elements of the inputs, on the first visit."""

    batches: BatchJob

    def do(self, task: range) -> list[int]:
        """One for each sample; 0 if it cannot be made, which counts when it is met in an epoch."""
        return [self._length(index) for index in task]

    def _length(self, index: int) -> int:
        try:
            inputs = self.batches.sample(index, 0).inputs
        except SampleError:
            return 0
        values = inputs.values() if isinstance(inputs, Mapping) else [inputs]
        return sum(np.size(value) for value in values)


@attrs.frozen(eq=False)
class KeepJob:
    """Processes samples of the source as far as the same comes out each time.

    Attributes:
        source: the samples.
        chain: the processors.
        skips: whether a sample that cannot be used is left out instead of being an error.
    """

    source: Source
    chain: Chain
    skips: bool

    @property
    def counts(self) -> bool:
        """Whether a sample depends on how many there are before it, so that they must be made one after the other."""
        return self.chain.random_fixed and (self.skips or bool(self.chain.generating))

    def do(self, task: Sequence[int]) -> list[tuple[list[Sample], list[str]]]:
        """For each sample of the source, what becomes of it, and the errors of what was left out.

        Raises:
            SampleError: one cannot be used, and is not to be left out.
        """
        return [self.one(index, index)[:2] for index in task]

    def one(self, source_index: int, number: int) -> tuple[list[Sample], list[str], int]:
        """What becomes of a sample of the source, errors, and the number of the next sample.

        Args:
            source_index: the sample of the source.
            number: how many samples come before behind the generating processors.
        """
        made, errors = [], []
        samples, failed = _expanded(self.source, self.chain, source_index, skips=self.skips)
        errors += failed
        for sample in samples:
            try:
                made.append(
                    self.chain.run(self.chain.deterministic, sample, index=number, visit=0, source_index=source_index)
                )
            except SampleError as error:
                if not self.skips:
                    raise
                errors.append(str(error))
            number += 1
        return made, errors, number


@attrs.frozen(eq=False)
class CountJob:
    """Counts what generating processors make."""

    source: Source
    chain: Chain
    skips: bool

    def do(self, task: Sequence[int]) -> list[tuple[int, list[str]]]:
        """For each sample of the source, the number, and why it is 0.

        Raises:
            SampleError: one cannot be used, and is not to be left out.
        """
        expanded = [_expanded(self.source, self.chain, index, skips=self.skips) for index in task]
        return [(len(samples), errors) for samples, errors in expanded]


def _expanded(source: Source, chain: Chain, index: int, *, skips: bool) -> tuple[list[Sample], list[str]]:
    try:
        return chain.expand(source[index], index), []
    except SampleError as error:
        if not skips:
            raise
        return [], [str(error)]


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

    def __init__(self, workers: WorkerPool | None, job: Job) -> None:
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


def for_each(job: Job, total: int, workers: WorkerPool | None) -> Iterator[Any]:
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
