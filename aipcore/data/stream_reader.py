"""Reading a stream: consecutive samples from a position on, and the positions to which a reader can return."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from aipcore.data.dataset import MemoryDataset
from aipcore.data.sample import Sample
from aipcore.data.stream import Source
from aipcore.errors import DataError
from aipcore.params.names import count

STATE_SHARE = 0.02
"""The most time that may be spent on saving states."""

STATE_SECONDS = 0.1
"""The least time between two states."""

MOST_STATES = 64
"""The most states kept. They reach back to the last batch that was trained on."""

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
        batch_size: if given, each element counts as so many samples, and elements are never divided.
        window: the number of elements that are put into a random order together; at most 1: none.
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
        seed: int = 0,
    ) -> None:
        self._source, self._rows_of, self._positions = source, rows, positions
        self._batch_size, self._window, self._seed = batch_size, max(1, window), seed
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
            self.take(min(sample - self.sample, self._batch_size or 2**16))

    def close(self) -> None:
        """Release what the iteration holds."""
        self._elements.close()

    def _next_rows(self) -> Rows:
        if not self._ahead:
            self._save()
            read = [next(self._elements) for _ in range(self._window)]
            if self._window > 1:
                generator = np.random.Generator(np.random.Philox(key=[self._seed, self._element // self._window]))
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
    return _sliced(rows, slice(count)), _sliced(rows, slice(count, None))


def _sliced(rows: MemoryDataset, part: slice) -> MemoryDataset:
    inputs, targets, weights = (
        attrs.evolve(side, columns={name: column[part] for name, column in side.columns.items()}) for side in rows.sides
    )
    return attrs.evolve(rows, inputs=inputs, targets=targets, weights=weights)
