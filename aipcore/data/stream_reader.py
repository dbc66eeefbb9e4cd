"""Reading a stream: consecutive samples from a position on."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import attrs
import numpy as np

from aipcore.data.adapters.elements import Convert, as_rows, as_sample, batch_size, no_samples
from aipcore.data.dataset import Fields, MemoryDataset
from aipcore.data.processing import Processors, SampleError, SkippedSamples
from aipcore.data.sample import Sample
from aipcore.data.stream import Elements, Source
from aipcore.data.stream_positions import STATE_BYTES, Position, Positions, in_mebibytes, state_bytes
from aipcore.errors import DataError
from aipcore.params.names import count

STATE_SHARE = 0.02
"""The most time that may be spent on saving states."""

STATE_SECONDS = 0.1
"""The least time between two states."""

NOTICE_SECONDS = 10.0
"""Time after which reading for a count is announced."""

logger = logging.getLogger(__name__)

Rows = MemoryDataset | list[Sample | None]
"""The samples of one element; None for one that is skipped."""


@attrs.frozen(kw_only=True)
class Cut:
    """The division of a stream into passes and groups.

    Attributes:
        length: the number of elements of a pass; None: unknown.
        whole: True if each pass must have this number, since an epoch is a pass.
        training: True if epochs may be independent of passes.
        window: the number of elements that are put into a random order together; at most 1: none.
        seed: the seed of this order.
    """

    length: int | None
    whole: bool
    training: bool
    window: int
    seed: int

    def group(self, element: int) -> int:
        """Return the size of the group that begins with an element. A group ends with its pass."""
        window = max(1, self.window)
        return min(window, self.length - element % self.length) if self.length else window

    def order(self, element: int, size: int) -> list[int]:
        """Return the order of the group that begins with an element."""
        if size == 1:
            return [0]
        generator = np.random.Generator(np.random.Philox(key=[self.seed, element]))
        order: list[int] = generator.permutation(size).tolist()
        return order

    def check(self, element: int, pass_index: int, origin: str) -> None:
        """Check that an element belongs to a pass.

        Raises:
            DataError: a pass has fewer or more elements than the first one, or than was declared.
        """
        if not self.whole or not self.length or element // self.length == pass_index:
            return
        if element // self.length > pass_index:
            found = f"more than {count(self.length, 'element')}"
        else:
            found = f"{count(element - (pass_index - 1) * self.length, 'element')} instead of {self.length:,}"
        number = min(pass_index, element // self.length) + 1
        ways = ["Return the same elements in each pass", "correct the length of a Stream"]
        if self.training:
            ways.append("set --trainer.samples_per_epoch, so that an epoch is not a pass")
        raise DataError(
            f"Pass {number} of {origin} has {found}. {', '.join(ways[:-1])}{',' * (len(ways) > 2)} or {ways[-1]}."
        )


@attrs.frozen(kw_only=True, eq=False)
class Conversion:
    """The conversion of elements to samples, up to the last generating processor.

    Attributes:
        source: the source of the elements.
        processors: all processors.
        convert: the author's conversion of an element, or None.
        skipped: counts the samples that cannot be used; None: an unusable sample is an error.
        targets: True to keep the targets.
        shared: True if the arrays of the samples are only read.
    """

    source: Source
    processors: Processors
    convert: Convert | None
    skipped: SkippedSamples | None
    targets: bool = True
    shared: bool = False

    def __call__(self, element: Any, number: int, *, counted: bool = True) -> Rows:
        """Return the samples of an element.

        Args:
            element: the element.
            number: the number of elements before it, for errors.
            counted: False to leave skipped samples out of the count, because the element is read again.
        """
        try:
            rows = self._rows(element, number)
        except SampleError as error:
            self._skip(error, counted)
            return [] if self.processors.generating else [None]
        if not self.processors.generating:
            return rows
        made: list[Sample | None] = []
        for each in samples_of([rows]):
            try:
                made += [] if each is None else self.processors.expand(each, number)
            except SampleError as error:
                self._skip(error, counted)
        return made

    def size(self, element: Any, number: int) -> int:
        """Return the number of samples of an element, without making them if possible."""
        if self.processors.generating:
            return len(self(element, number, counted=False))
        return batch_size(element, self.source.origin) if self.source.batched or self.source.stacked else 1

    def _rows(self, element: Any, number: int) -> Rows:
        origin = self.source.origin
        if self.source.batched or self.source.stacked:
            rows = as_rows(element, origin, weighted=self.processors.weighted, shared=self.shared)
            return rows if self.targets else attrs.evolve(rows, targets=Fields())
        sample = as_sample(element, number, origin, self.convert)
        return [sample if self.targets else attrs.evolve(sample, targets=None)]

    def _skip(self, error: SampleError, counted: bool) -> None:
        if self.skipped is None:
            raise error
        if counted:
            self.skipped.add([str(error)])


class Reader:
    """Consecutive samples of a source.

    Args:
        conversion: returns the samples of an element.
        start: the position to begin at.
        positions: receives the positions that can be returned to; None: none are saved.
        cut: the division into passes and groups.
        batch_size: if given, each element counts as this many samples, and elements are never divided.

    Attributes:
        sample: the index of the next sample.
    """

    def __init__(
        self,
        conversion: Conversion,
        start: Position,
        positions: Positions | None,
        cut: Cut,
        batch_size: int | None = None,
    ) -> None:
        self._conversion, self._positions, self._cut, self._batch_size = conversion, positions, cut, batch_size
        self._origin = conversion.source.origin
        self._elements: Elements = conversion.source.elements()
        if start.state is not None:
            self._elements.restore(start.state)
        self.sample = start.sample
        self._element = start.element
        self._ahead: deque[tuple[int, Any]] = deque()
        self._rest: Rows = []
        self._full_pass: int | None = None
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
                number, element = self._next()
                rows = self._conversion(element, number)
                if len(rows) > self._batch_size:
                    raise DataError(
                        f"Batch {number} of {self._origin} has {count(len(rows), 'sample')}, but the "
                        f"first ones have {self._batch_size}. Return samples instead of batches, e.g. with unbatch()."
                    )
                self.sample += self._batch_size
                found.append(rows)
                continue
            if not len(self._rest):
                number, element = self._next()
                self._rest = self._conversion(element, number)
                self._check_progress(len(self._rest))
            found.append(self._part(end))
        return found

    def skip_to(self, sample: int) -> None:
        """Read up to the sample of an index, and drop the samples before it, as far as possible before they are made.

        Raises:
            DataError: an element cannot be read.
        """
        while self.sample < sample:
            if self._batch_size is not None:
                self._next()
                self.sample += self._batch_size
                continue
            if not len(self._rest):
                number, element = self._next()
                size = self._conversion.size(element, number)
                self._check_progress(size)
                if self.sample + size <= sample:
                    self.sample += size
                    continue
                self._rest = self._conversion(element, number, counted=False)
            self._part(sample)

    def check_end(self) -> None:
        """Check that the first pass, which was read up to its given length, has no further element.

        Raises:
            DataError: it has.
        """
        self._read(self._element)

    def close(self) -> None:
        """Release what the iteration holds."""
        self._elements.close()

    def _part(self, end: int) -> Rows:
        part, self._rest = divided(self._rest, end - self.sample)
        self.sample += len(part)
        return part

    def _next(self) -> tuple[int, Any]:
        """Return the next element, and the number of elements before it in the source."""
        if not self._ahead:
            self._save()
            first = self._element
            read = [(number, self._read(number)) for number in range(first, first + self._cut.group(first))]
            self._ahead.extend(read[n] for n in self._cut.order(first, len(read)))
        self._element += 1
        return self._ahead.popleft()

    def _read(self, number: int) -> Any:
        element = next(self._elements)
        self._cut.check(number, self._elements.pass_index, self._origin)
        return element

    def _check_progress(self, samples: int) -> None:
        """Reject a source of which a whole pass has no samples, instead of reading on forever."""
        current = self._elements.pass_index
        if samples or self._full_pass is None:
            self._full_pass = current
        elif current > self._full_pass + 1:
            raise no_samples(self._origin, f"in pass {current}")

    def _save(self) -> None:
        begun = time.monotonic()
        if self._positions is None or begun < self._due or not self._elements.between:
            return
        state = self._elements.state()
        size = state_bytes(state)
        if size > STATE_BYTES:
            logger.warning(
                "The state of %s has grown to %s and is no longer saved. A resumed run reads again from sample %s on.",
                self._origin,
                in_mebibytes(size),
                f"{self._positions.before(self.sample).sample:,}",
            )
            self._positions = None
            return
        if state is not None:
            self._positions.add(Position(sample=self.sample, element=self._element, state=state, nbytes=size))
        ended = time.monotonic()
        self._due = ended + max(STATE_SECONDS, (ended - begun) / STATE_SHARE)


def divided(rows: Rows, count: int) -> tuple[Rows, Rows]:
    """Return the first `count` samples, and the rest."""
    if count >= len(rows):
        return rows, []
    if isinstance(rows, list):
        return rows[:count], rows[count:]
    return rows.sliced(slice(count)), rows.sliced(slice(count, None))


def first_elements(conversion: Conversion, samples: int) -> tuple[list[Rows], Any]:
    """Return the samples of the first elements of a pass, at least two elements and `samples` samples if possible.

    Returns:
        the samples of each element; and the first element.

    Raises:
        DataError: the pass has no sample, or an element cannot be read.
    """
    raw: list[Rows] = []
    first: Any = None
    for number, element in enumerate(conversion.source.one_pass()):
        first = first if number else element
        # Skipped samples are counted when an epoch reaches them.
        raw.append(conversion(element, number, counted=False))
        if number and sum(map(len, raw)) >= samples:
            break
    if not sum(map(len, raw)):
        raise no_samples(conversion.source.origin)
    return raw, first


def samples_of(parts: Iterable[Rows]) -> Iterator[Sample | None]:
    """Yield the samples of several elements."""
    for rows in parts:
        for number in range(len(rows)):
            yield rows[number]


def counted(conversion: Conversion, hint: str) -> tuple[int, int]:
    """Return the number of samples and of elements of a pass by reading it.

    Args:
        conversion: counts the samples of an element.
        hint: the option that makes counting unnecessary.

    Raises:
        DataError: the source has no end.
    """
    source = conversion.source
    if source.endless:
        raise DataError(f"{source.origin} has no end. Set the number of samples with {hint}.")
    samples, elements, notice = 0, 0, time.monotonic() + NOTICE_SECONDS
    for element in source.one_pass():
        samples += conversion.size(element, elements)
        elements += 1
        if time.monotonic() > notice:
            logger.warning(
                "Counting the samples of %s: %s so far. %s makes this unnecessary.",
                source.origin,
                f"{samples:,}",
                hint,
            )
            notice = time.monotonic() + NOTICE_SECONDS
    return samples, elements
