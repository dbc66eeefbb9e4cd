"""Application of processors to single samples, with errors that name the processor and the sample."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from reprlib import Repr
from typing import Any, Protocol

import attrs
import numpy as np

from aipcore.data.processor import (
    AnyProcessor,
    GeneratingProcessor,
    Mode,
    Processor,
    RandomBatchProcessor,
    RandomProcessor,
)
from aipcore.data.random import BatchRandom
from aipcore.data.sample import Sample, SampleBatch
from aipcore.errors import AipError, DataError, ScenarioError, located_sentence
from aipcore.params.names import count

WORD = 2**64

RANDOM = (RandomProcessor, RandomBatchProcessor)

Part = Sequence[tuple[int, AnyProcessor]]
"""Consecutive processors, each with its position among all processors of the scenario."""


class SampleError(DataError):
    """One sample cannot be used; others may be usable."""


class Partners(Protocol):
    """The samples among which partners are drawn."""

    def draw(self, count: int, random: Any, *, position: int, index: int, visit: int) -> list[Sample]:
        """Return partners of a sample as the processor at a position receives them.

        Args:
            count: the number of partners.
            random: the random numbers of the processor for the sample.
            position: the position of the processor.
            index: the sample index.
            visit: the number of earlier visits of the sample.

        Raises:
            SampleError: a partner cannot be used.
        """


class SkippedSamples:
    """A count of the samples skipped since the last report."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._lock = threading.Lock()
        self._count = 0
        self._first = ""

    def add(self, errors: Iterable[str]) -> None:
        """Count skipped samples, one for each error."""
        for error in errors:
            with self._lock:
                self._first = self._first if self._count else error
                self._count += 1

    def report(self) -> str | None:
        """Return a sentence about the samples skipped since the last call, or None if there were none."""
        with self._lock:
            left, self._count = self._count, 0
        if not left:
            return None
        samples = count(left, "sample")
        verb = "was" if left == 1 else "were"
        return f"{samples} of {self._origin} {verb} skipped (--data.on_error skip). The first error: {self._first}"


@attrs.frozen(kw_only=True, eq=False)
class Processors:
    """The processors of one mode, divided where results can be cached.

    Attributes:
        generating: up to the last generating processor: one sample to any number of samples, deterministic.
        deterministic: the following processors with the same result on each visit.
        random: the rest, from the first processor that draws new random numbers on each visit; only in training.
        seed: the seed of the random processors.
        origin: the name of the data in errors.
        weighted: True if samples keep their weights; False where no loss is computed.
    """

    generating: Part
    deterministic: Part
    random: Part
    seed: int
    origin: str
    weighted: bool = True
    _local: threading.local = attrs.field(factory=threading.local, init=False)

    @classmethod
    def make(cls, processors: Sequence[AnyProcessor], mode: Mode, *, seed: int, origin: str) -> Processors:
        """Return the processors for `mode`. Each keeps its position, which seeds its random numbers.

        Raises:
            ScenarioError: a random processor precedes a generating one, or has partners outside training.
        """
        active = [(position, each) for position, each in enumerate(processors) if mode in each.modes]
        for _, each in active:
            if mode is not Mode.TRAINING and isinstance(each, RANDOM) and each.partners:
                raise ScenarioError(
                    f"{each.name} has partners, which exist in training only, but its modes contain Mode.{mode.name}. "
                    "Set modes = {Mode.TRAINING}."
                )
        last = max((n for n, (_, each) in enumerate(active) if isinstance(each, GeneratingProcessor)), default=-1)
        for _, each in active[: last + 1]:
            if isinstance(each, RANDOM):
                raise ScenarioError(
                    f"The random processor {each.name} comes before the generating processor "
                    f"{active[last][1].name}, so the number of samples is not known. Move it after "
                    f"{active[last][1].name}."
                )
        rest = active[last + 1 :]
        first = len(rest)
        if mode is Mode.TRAINING:
            first = next((n for n, (_, each) in enumerate(rest) if isinstance(each, RANDOM)), first)
        return cls(
            generating=active[: last + 1],
            deterministic=rest[:first],
            random=rest[first:],
            seed=seed % WORD,
            origin=origin,
            weighted=mode in (Mode.TRAINING, Mode.EVALUATION),
        )

    @property
    def random_fixed(self) -> bool:
        """True if the deterministic part draws random numbers, once per sample."""
        return any(isinstance(each, RANDOM) for _, each in self.deterministic)

    def __reduce__(self) -> tuple[Any, ...]:
        return _processors, (self.generating, self.deterministic, self.random, self.seed, self.origin, self.weighted)

    @property
    def processes(self) -> bool:
        """True if there is at least one processor."""
        return bool(self.generating or self.deterministic or self.random)

    def apply(self, sample: Sample, index: int = 0) -> list[Sample]:
        """Run all processors on one sample, on its first visit.

        Raises:
            SampleError: a processor failed.
        """
        part = [*self.deterministic, *self.random]
        made = self.expand(sample, index)
        return [self.run(part, each, index=index + n, visit=0, source_index=index) for n, each in enumerate(made)]

    def expand(self, sample: Sample, source_index: int) -> list[Sample]:
        """Run the generating processors.

        Raises:
            SampleError: a processor failed.
        """
        samples = [sample]
        for _, processor in self.generating:
            made: list[Sample] = []
            for each in samples:
                if isinstance(processor, GeneratingProcessor):
                    made += self._generated(processor, each, source_index)
                elif isinstance(processor, Processor):
                    made.append(self._called(processor, each, source_index, processor.process))
            samples = made
        return samples

    def run(
        self, part: Part, sample: Sample, *, index: int, visit: int, source_index: int, others: Partners | None = None
    ) -> Sample:
        """Run processors that each map one sample to one sample.

        Args:
            part: `deterministic`, `random` or both.
            sample: the sample to process.
            index: the sample index after the generating processors; seeds random processors.
            visit: the number of earlier visits of the sample; seeds random processors.
            source_index: the sample index in the source, for errors.
            others: the samples among which partners are drawn; None for a stream.

        Raises:
            SampleError: a processor failed.
            ScenarioError: a processor has partners, but the data is a stream.
        """
        for position, processor in part:
            if isinstance(processor, RANDOM):
                random: Any
                process: Callable[..., Sample]
                if isinstance(processor, RandomProcessor):
                    random, process = self._generator(position, index, visit), processor.process
                else:
                    random = BatchRandom(self.seed, np.asarray([visit]), position, np.asarray([index]))
                    process = partial(_alone, processor)
                partners: list[Sample] = []
                if processor.partners:
                    if others is None:
                        raise ScenarioError(
                            f"{processor.name} has partners, which are drawn from all samples, but {self.origin} is a "
                            "stream. Return arrays, a list, or an object with __len__ and __getitem__."
                        )
                    partners = others.draw(processor.partners, random, position=position, index=index, visit=visit)
                sample = self._called(processor, sample, source_index, process, random, *partners)
            elif isinstance(processor, Processor):
                sample = self._called(processor, sample, source_index, processor.process)
        if sample.weight is not None and not self.weighted:
            sample = attrs.evolve(sample, weight=None)
        return sample

    def _called(
        self, processor: AnyProcessor, sample: Sample, source_index: int, process: Callable[..., Sample], *extra: Any
    ) -> Sample:
        made: Any
        try:
            made = process(sample, *extra)
        except Exception as error:
            raise self._failure(processor, sample, source_index, error) from error
        if not isinstance(made, Sample):
            hint = " To drop samples, extend GeneratingProcessor." if made is None else ""
            raise ScenarioError(f"Processor {processor.name} returned {type(made).__name__}. Return a Sample.{hint}")
        return made

    def _generated(self, processor: GeneratingProcessor, sample: Sample, source_index: int) -> list[Sample]:
        try:
            made = list(processor.generate(sample))
        except Exception as error:
            raise self._failure(processor, sample, source_index, error) from error
        for each in made:
            if not isinstance(each, Sample):
                raise ScenarioError(
                    f"Processor {processor.name} generated {type(each).__name__}. Yield Sample objects."
                )
        return made

    def _failure(self, processor: AnyProcessor, sample: Sample, source_index: int, error: Exception) -> SampleError:
        return SampleError(
            f"Processor {processor.name} failed on sample {source_index} of {self.origin}{_about(sample)}: "
            f"{' '.join(located_sentence(error).split())}. {skip_hint(error, 'Fix the sample or the processor')}"
        )

    def _generator(self, position: int, index: int, visit: int) -> np.random.Generator:
        # Setting the state of a generator is five times as fast as making one. Keyed by seed and visit, its counter
        # starts at a different place for each index and position, 2**128 numbers apart. The sample order uses the same
        # key with zeros there, hence the added 1.
        made = self._local.__dict__.setdefault("made", {})
        if position not in made:
            bits = np.random.Philox(key=0)
            made[position] = bits, np.random.Generator(bits), bits.state
        bits, generator, state = made[position]
        state["state"]["key"][:] = (self.seed, visit)
        state["state"]["counter"][:] = (0, 0, position + 1, index)
        bits.state = state
        return generator  # type: ignore[no-any-return]


def skip_hint(error: Exception, fix: str) -> str:
    """Return the next step after the error of a sample. A sentence of aip already ends with a way to fix it."""
    if isinstance(error, AipError):
        return "To skip such samples, set --data.on_error skip."
    return f"{fix}, or set --data.on_error skip."


def _alone(processor: RandomBatchProcessor, sample: Sample, random: BatchRandom, *partners: Sample) -> Sample:
    """Return the result for a sample as a batch of one."""
    process: Callable[..., SampleBatch] = processor.process
    made = process(_batch_of_one(sample), random, *map(_batch_of_one, partners))
    inputs, targets, weight = (_each(side, _first) for side in (made.inputs, made.targets, made.weight))
    return Sample(inputs=inputs, targets=targets, meta=sample.meta, weight=weight)


def _batch_of_one(sample: Sample) -> SampleBatch:
    inputs, targets, weight = (_each(side, _with_axis) for side in (sample.inputs, sample.targets, sample.weight))
    return SampleBatch(inputs=inputs, targets=targets, weight=weight)


def _each(side: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(side, Mapping):
        return {name: change(value) for name, value in side.items()}
    return None if side is None else change(side)


def _with_axis(value: Any) -> Any:
    return np.asarray(value)[None]


def _first(value: Any) -> Any:
    return value[0]


def _processors(
    generating: Part, deterministic: Part, random: Part, seed: int, origin: str, weighted: bool
) -> Processors:
    return Processors(
        generating=generating, deterministic=deterministic, random=random, seed=seed, origin=origin, weighted=weighted
    )


def _about(sample: Sample) -> str:
    if sample.meta is None:
        return ""
    shortened = Repr()
    shortened.maxstring = shortened.maxother = 120
    return f" ({shortened.repr(sample.meta)})"
