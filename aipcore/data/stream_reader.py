"""Reading a stream: consecutive samples from a position on, and the positions to which a reader can return."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any

import attrs
import numpy as np

from aipcore.data.adapters.elements import Convert, as_rows, as_sample, same
from aipcore.data.dataset import MemoryDataset
from aipcore.data.processing import Processors, SampleError, SkippedSamples
from aipcore.data.sample import Sample
from aipcore.data.stream import Source
from aipcore.errors import DataError, sentence
from aipcore.params.names import count

STATE_SHARE = 0.02
"""The most time that may be spent on saving states."""

STATE_SECONDS = 0.1
"""The least time between two states."""

MOST_STATES = 64
"""The most states kept. They reach back to the last batch that was trained on."""

TRIED = 8
"""Elements that a restored iteration must repeat before its states are trusted."""

NOTICE_SECONDS = 10.0
"""Time after which reading for a count is announced."""

logger = logging.getLogger(__name__)

Rows = MemoryDataset | list[Sample]
"""The samples of one element."""


@attrs.frozen(kw_only=True, eq=False)
class Position:
    """A position between two elements of a source.

    Attributes:
        sample: the index of the next sample.
        element: the number of elements before.
        state: the state of the source, or None at the beginning.
    """

    sample: int
    element: int
    state: Any


class Positions:
    """The positions of a source to which reading can return, in order.

    Args:
        first: the beginning.
    """

    def __init__(self, first: Position) -> None:
        self._first = first
        self._later: deque[Position] = deque(maxlen=MOST_STATES)
        # A reader in the background adds positions while a checkpoint looks one up.
        self._lock = threading.Lock()

    def add(self, position: Position) -> None:
        """Add a position. It replaces all positions that do not lie before it."""
        with self._lock:
            while self._later and self._later[-1].sample >= position.sample:
                self._later.pop()
            self._later.append(position)

    def before(self, sample: int) -> Position:
        """Return the last position that does not lie after a sample."""
        with self._lock:
            return next((each for each in reversed(self._later) if each.sample <= sample), self._first)


class Reader:
    """Consecutive samples of a source.

    Args:
        source: the source.
        rows: returns the samples of an element; the second argument is the number of elements before it.
        start: the position to begin at.
        positions: receives the positions that can be returned to; None: none are saved.
        batch_size: if given, each element counts as this many samples, and elements are never divided.
        window: the number of elements that are put into a random order together; at most 1: none.
        length: the number of elements of a pass, in which such a group ends; None: unknown.
        seed: the seed of this order.

    Attributes:
        sample: the index of the next sample.
    """

    def __init__(
        self,
        source: Source,
        rows: Callable[[Any, int], Rows],
        start: Position,
        positions: Positions | None,
        *,
        batch_size: int | None = None,
        window: int = 0,
        length: int | None = None,
        seed: int = 0,
    ) -> None:
        self._source, self._rows_of, self._positions = source, rows, positions
        self._batch_size, self._window, self._length, self._seed = batch_size, max(1, window), length, seed
        self._elements = source.elements()
        if start.state is not None:
            self._elements.restore(start.state)
        self.sample = start.sample
        self._element = start.element
        self._ahead: deque[Any] = deque()
        self._rest: Rows = []
        self._due = time.monotonic() + STATE_SECONDS

    def take(self, samples: int) -> list[Rows]:
        """Return the samples of the next `samples` indices, as parts of elements.

        Raises:
            DataError: an element cannot be read.
        """
        found: list[Rows] = []
        end = self.sample + samples
        while self.sample < end:
            if self._batch_size is not None:
                rows = self._next_rows()
                if len(rows) > self._batch_size:
                    raise DataError(
                        f"Batch {self._element - 1} of {self._source.origin} has {count(len(rows), 'sample')}, but the "
                        f"first ones have {self._batch_size}. Return samples instead of batches, e.g. with unbatch()."
                    )
                self.sample += self._batch_size
                found.append(rows)
                continue
            if not len(self._rest):
                self._rest = self._next_rows()
            part, self._rest = divided(self._rest, end - self.sample)
            self.sample += len(part)
            found.append(part)
        return found

    def skip_to(self, sample: int) -> None:
        """Read up to the sample of an index, and drop the samples before it."""
        while self.sample < sample:
            # Element by element, so that the dropped samples are never in memory together.
            self.take(self._batch_size or min(sample - self.sample, len(self._rest) or 1))

    def close(self) -> None:
        """Release what the iteration holds."""
        self._elements.close()

    def _next_rows(self) -> Rows:
        if not self._ahead:
            self._save()
            # A group ends with its pass.
            size = min(self._window, self._length - self._element % self._length) if self._length else self._window
            read = [next(self._elements) for _ in range(size)]
            if self._window > 1:
                generator = np.random.Generator(np.random.Philox(key=[self._seed, self._element]))
                read = [read[n] for n in generator.permutation(len(read))]
            self._ahead.extend(read)
        rows = self._rows_of(self._ahead.popleft(), self._element)
        self._element += 1
        return rows

    def _save(self) -> None:
        begun = time.monotonic()
        if self._positions is None or begun < self._due:
            return
        state = self._elements.state()
        self._positions.add(Position(sample=self.sample, element=self._element, state=state))
        ended = time.monotonic()
        self._due = ended + max(STATE_SECONDS, (ended - begun) / STATE_SHARE)


def divided(rows: Rows, count: int) -> tuple[Rows, Rows]:
    """Return the first `count` samples, and the rest."""
    if count >= len(rows):
        return rows, []
    if isinstance(rows, list):
        return rows[:count], rows[count:]
    return rows.sliced(slice(count)), rows.sliced(slice(count, None))


@attrs.frozen(kw_only=True, eq=False)
class Conversion:
    """The conversion of elements to samples, up to the last generating processor.

    Attributes:
        source: the source of the elements.
        processors: all processors.
        convert: the author's conversion of an element, or None.
        skipped: counts the samples that cannot be used; None: an unusable sample is an error.
    """

    source: Source
    processors: Processors
    convert: Convert | None
    skipped: SkippedSamples | None

    def __call__(self, element: Any, number: int) -> Rows:
        """Return the samples of an element."""
        origin = self.source.origin
        if self.source.batched or self.source.stacked:
            rows = as_rows(element, origin)
            if not self.processors.generating:
                return rows
            samples = list(samples_of([rows]))
        else:
            samples = [as_sample(element, number, origin, self.convert)]
        if not self.processors.generating:
            return samples
        made: list[Sample] = []
        for each in samples:
            try:
                made += self.processors.expand(each, number)
            except SampleError as error:
                if self.skipped is None:
                    raise
                self.skipped.add([str(error)])
        return made


def repeats(source: Source) -> bool:
    """Return True if an iteration restored from a state repeats the following elements."""
    with closing(source.elements()) as elements:
        for _ in range(3):
            next(elements)
        state = elements.state()
        following = [next(elements) for _ in range(TRIED)]
    try:
        with closing(source.elements()) as elements:
            elements.restore(state)
            return all(same(each, next(elements)) for each in following)
    except Exception as error:
        logger.warning("The state of %s cannot be restored: %s.", source.origin, sentence(error))
        return False


def as_arrays(state: Any) -> Any:
    """Return a state with arrays in place of bytes."""
    if isinstance(state, dict):
        return {name: as_arrays(value) for name, value in state.items()}
    return np.frombuffer(state, np.uint8) if isinstance(state, bytes) else state


def as_bytes(state: Any) -> Any:
    """Return a state with bytes in place of arrays."""
    if isinstance(state, dict):
        return {name: as_bytes(value) for name, value in state.items()}
    return state.tobytes() if isinstance(state, np.ndarray) else state


def samples_of(parts: Iterable[Rows]) -> Iterator[Sample]:
    """Yield the samples of several elements."""
    for rows in parts:
        for number in range(len(rows)):
            yield rows[number]


def counted(source: Source, samples_in: Callable[[Any, int], int]) -> int:
    """Return the number of samples of a pass by reading it.

    Args:
        source: the source.
        samples_in: returns the number of samples of an element; the second argument is the number of elements before.

    Raises:
        DataError: the source has no end.
    """
    if source.endless:
        raise DataError(
            f"{source.origin} has no end. Set the number of samples of an epoch with --trainer.samples_per_epoch."
        )
    total, notice = 0, time.monotonic() + NOTICE_SECONDS
    for number, element in enumerate(source.one_pass()):
        total += samples_in(element, number)
        if time.monotonic() > notice:
            logger.warning(
                "Counting the samples of %s: %s so far. --trainer.samples_per_epoch makes this unnecessary.",
                source.origin,
                f"{total:,}",
            )
            notice = time.monotonic() + NOTICE_SECONDS
    return total
