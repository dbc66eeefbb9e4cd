"""Parallel processing: functions run in worker processes, and the measured choice between workers and this process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice, tee
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.data.dataset import Batch, Dataset, MemoryDataset
from aipcore.data.pickling import UnshippableError
from aipcore.data.processed import ProcessedDataset
from aipcore.data.processing import SkippedSamples
from aipcore.data.sample import SIDES, Sample, Specs
from aipcore.data.sampler import Indices, Visits
from aipcore.data.worker_pool import WorkerPool
from aipcore.data.worker_process import Area
from aipcore.params.names import count

LONGEST = 0.25
"""Seconds after which no further samples are timed."""

TASK_SECONDS = 0.03
"""Target duration of a task: long compared with its transfer, short enough for Ctrl-C to respond quickly."""

LARGEST = 64
"""The most samples in a task."""

GAIN = 4.0
"""Workers are chosen if making a sample takes at least this many times longer than its transfer."""

SHORTEST = 0.5
"""Seconds of work below which starting workers does not pay."""

PASSED = 100e-6
"""Seconds to hand over a task, apart from copying."""


@attrs.frozen(kw_only=True)
class Choice:
    """The choice between worker processes and this process.

    Attributes:
        workers: number of workers; 0: this process.
        task: samples per task.
        reason: the reason in words, for the plan.
    """

    workers: int
    task: int
    reason: str


@attrs.frozen(kw_only=True)
class Timing:
    """The measured cost of a sample.

    Attributes:
        samples: number of samples timed.
        seconds: time to make one sample.
        passing: time to pass one sample through shared memory, in seconds.
        nbytes: size of one sample in shared memory.
    """

    samples: int
    seconds: float
    passing: float
    nbytes: float


Function = Callable[[Iterable[int]], Sequence[Any]]
"""Returns one entry for each of the given sample indices."""


def measure(function: Function, total: int) -> Generator[Any, None, Timing]:
    """Time the first samples, and yield the results of the function.

    Args:
        function: returns one entry for each of the given sample indices.
        total: number of samples.
    """
    samples, taken, last = 0, 0.0, 1
    answer: Sequence[Any] = ()
    for most in (1, 3, 12, 48):
        size = min(most, total - samples)
        if not size or taken > LONGEST:
            break
        last = size
        begun = time.perf_counter()
        answer = function(range(samples, samples + size))
        taken += time.perf_counter() - begun
        samples += size
        yield from answer
    area = Area.make()
    try:
        begun = time.perf_counter()
        nbytes = area.write(answer)
        area.read(copy=True)
        copied = time.perf_counter() - begun
    except Exception:
        # Rare: objects of classes that only the slower method can pickle.
        copied, nbytes = taken, 0
    finally:
        area.close()
    passing = copied / last + PASSED / LARGEST
    return Timing(samples=samples, seconds=taken / samples, passing=passing, nbytes=nbytes / last)


class ParallelFunction:
    """A function called by worker processes, or by this process where workers do not pay.

    Args:
        function: the function to call. The first argument of each call holds one entry per sample.
        workers: the worker pool to use; None: this process only.
    """

    def __init__(self, function: Callable[..., Any], workers: WorkerPool | None) -> None:
        self._function = function
        self._workers = workers
        self._nbytes = 0.0
        self.choice: Choice | None = None

    @property
    def possible(self) -> bool:
        """True if worker processes are available."""
        return self._workers is not None and self._workers.count > 0

    def choose(self, timing: Timing | None, total: int) -> Choice:
        """Choose between worker processes and this process.

        Args:
            timing: the measured cost of a sample; None if there is no choice.
            total: number of samples.

        Raises:
            UnshippableError: workers are required but cannot run the function.
        """
        self.choice = self._chosen(timing, total)
        return self.choice

    def measured(self, make: Callable[[Sequence[int]], Any], available: int, total: int) -> Choice:
        """Choose by the time that the first samples take here, if there is a choice.

        Args:
            make: makes the samples of some indices.
            available: the number of samples that `make` can make.
            total: the number of samples of the data.
        """
        timing = None
        if self.possible:
            answers = measure(lambda indices: [make(list(indices))], available)
            while timing is None:
                try:
                    next(answers)
                except StopIteration as end:
                    timing = end.value
        return self.choose(timing, total)

    def calls(self, tasks: Iterable[tuple[Any, ...]]) -> Generator[Any, None, None]:
        """Yield the results of several calls in order, once the choice is made."""
        if self.choice is not None and self.choice.workers:
            assert self._workers is not None
            return self._workers.stream(self._function, tasks, lambda task: len(task[0]) * self._nbytes)
        return (self._function(*task) for task in tasks)

    def forget(self) -> None:
        """Remove the function from the workers."""
        if self._workers is not None:
            self._workers.forget(self._function)

    def _chosen(self, timing: Timing | None, total: int) -> Choice:
        workers = self._workers
        if timing is None or workers is None:
            why = workers.unusable if workers is not None else ""
            return Choice(workers=0, task=1, reason=f"in this process ({why})" if why else "in this process")
        self._nbytes = timing.nbytes
        each = f"{timing.seconds * 1000:.2g} ms per sample"
        task = max(1, min(LARGEST, round(TASK_SECONDS / max(timing.seconds, 1e-9))))
        if workers.auto and (timing.seconds < GAIN * timing.passing or timing.seconds * total < SHORTEST):
            return Choice(workers=0, task=task, reason=f"in this process ({each}; workers would not be faster)")
        try:
            workers.prepare(self._function)
        except UnshippableError as error:
            if not workers.auto:
                raise
            return Choice(workers=0, task=task, reason=f"in this process ({str(error).rstrip('.')})")
        return Choice(workers=workers.count, task=task, reason=f"by {count(workers.count, 'worker process')} ({each})")


def for_each(function: Function, total: int, workers: WorkerPool | None) -> Iterator[Any]:
    """Yield the result of a function for each sample, in order: the first ones here, the rest in workers if that pays.

    Args:
        function: returns one entry for each of the given sample indices.
        total: number of samples.
        workers: the worker pool to use, or None.
    """
    parallel = ParallelFunction(function, workers)
    timing, done = None, 0
    if parallel.possible:
        timing = yield from measure(function, total)
        done = timing.samples
    try:
        choice = parallel.choose(timing, total - done)
        if not choice.workers:
            for index in range(done, total):
                yield from function((index,))
            return
        starts = range(done, total, choice.task)
        with closing(parallel.calls((range(start, min(start + choice.task, total)),) for start in starts)) as answers:
            for answer in answers:
                yield from answer
    finally:
        parallel.forget()


class ParallelDataset(Dataset):
    """A dataset whose batches are made ahead by worker processes, if that pays.

    Args:
        dataset: makes the samples, here or in each worker.
        workers: the worker pool to use; None: this process only.
        skipped: counts the samples that cannot be used; None: an unusable sample is an error.
    """

    def __init__(
        self, dataset: ProcessedDataset, workers: WorkerPool | None, skipped: SkippedSamples | None = None
    ) -> None:
        self.dataset = dataset
        self._workers = workers
        self._skipped = skipped
        self._function = ParallelFunction(dataset.batch, workers)

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def uniform(self) -> bool:
        """See `Dataset`."""
        return self.dataset.uniform

    @property
    def separable(self) -> bool:
        """See `Dataset`."""
        return self.dataset.separable

    def specs(self) -> Specs:
        """See `Dataset`."""
        return self.dataset.specs()

    def known(self) -> MemoryDataset:
        """See `Dataset`."""
        return self.dataset.known()

    def lengths(self) -> npt.NDArray[np.int64]:
        """See `Dataset`."""
        return np.asarray(list(for_each(self.dataset.lengths_of, len(self), self._workers)))

    def sample(self, index: int, epoch: int = 0) -> Sample:
        """See `Dataset`."""
        return self.dataset.sample(index, epoch)

    def batch(self, indices: Indices, epochs: Indices | None = None) -> Batch:
        """See `Dataset`; made in this process."""
        return self._counted(self.dataset.batch(indices, epochs))

    def batches(self, requests: Iterable[Visits]) -> Generator[Batch, None, None]:
        """See `Dataset`."""
        choice = self.choice()
        # Padded batches are made as a whole.
        size = choice.task if choice.workers and self.uniform else sys.maxsize
        requests, again = tee(requests)
        tasks = ((part.indices, part.epochs) for visits in again for part in visits.cut(size))
        with closing(self._function.calls(tasks)) as answers:
            for visits in requests:
                sizes = [len(part.indices) for part in visits.cut(size)]
                yield self._counted(joined(list(islice(answers, len(sizes))), sizes))

    def choice(self) -> Choice:
        """Return the choice between workers and this process, measured on the first call.

        Raises:
            DataError: a sample cannot be made, or workers are required but not available.
        """
        if self._function.choice is not None:
            return self._function.choice
        return self._function.measured(lambda indices: self.dataset.batch(np.asarray(indices)), len(self), len(self))

    def _counted(self, batch: Batch) -> Batch:
        if self._skipped is not None:
            self._skipped.add(batch.errors)
        return batch


def joined(parts: list[Batch], sizes: list[int]) -> Batch:
    """Return consecutive batches, made of `sizes` requested samples each, as one."""
    if len(parts) == 1:
        return parts[0]
    kept = None
    if any(part.kept is not None for part in parts):
        pairs = zip(parts, sizes, strict=True)
        kept = np.concatenate([np.ones(size, bool) if part.kept is None else part.kept for part, size in pairs])
    meta = None
    if any(part.meta is not None for part in parts):
        meta = [each for part in parts for each in part.meta or [None] * _length(part)]
    inputs, targets, weights = (
        {name: np.concatenate([getattr(part, side)[name] for part in parts]) for name in getattr(parts[0], side)}
        for side in SIDES
    )
    errors = [error for part in parts for error in part.errors]
    return Batch(inputs=inputs, targets=targets, weights=weights, meta=meta, kept=kept, errors=errors)


def _length(batch: Batch) -> int:
    return len(next(iter((batch.inputs or batch.targets).values())))
