"""Prefetching of blocks across the ends of epochs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from aipcore.data.loader import Block, Prefetcher


class Made:
    """A source of three blocks per epoch, with a list of the blocks made."""

    def __init__(self) -> None:
        self.made: list[tuple[int, int]] = []

    def blocks(self, epoch: int, first: int) -> Iterator[Block]:
        for step in range(first, 3):
            self.made.append((epoch, step))
            yield Block(first=step, steps=1, batch_size=1, inputs={"": np.array([[epoch]])}, targets={})

    def wait(self, count: int) -> None:
        """Wait until this number of blocks was made; the suite's timeout ends a hanging wait."""
        while len(self.made) < count:
            time.sleep(0.001)


def steps(ahead: Prefetcher, epoch: int, first: int = 0) -> list[tuple[int, int]]:
    """Return the converted blocks of an epoch."""
    return list(ahead.epoch(epoch, first))


def converted(block: Block) -> tuple[int, int]:
    """Return epoch and batch."""
    return int(block.inputs[""][0, 0]), block.first


def threads() -> int:
    """Return the number of threads that make blocks."""
    return sum(thread.name == "aip-data-loader" for thread in threading.enumerate())


def test_continues_with_the_next_epoch() -> None:
    """At the end of an epoch, blocks of the next one are made, none twice, and none after the last epoch."""
    made = Made()
    ahead = Prefetcher(made.blocks, converted, epochs=3)
    assert steps(ahead, 0, 1) == [(0, 1), (0, 2)]
    made.wait(4)
    assert steps(ahead, 1) == [(1, 0), (1, 1), (1, 2)]
    assert steps(ahead, 2) == [(2, 0), (2, 1), (2, 2)]
    assert made.made == [(0, 1), (0, 2), *((epoch, step) for epoch in (1, 2) for step in range(3))]
    ahead.close()
    assert threads() == 0


def test_another_place() -> None:
    """A consumer that does not continue at the end of the last epoch gets the requested blocks."""
    ahead = Prefetcher(Made().blocks, converted, epochs=9)
    assert steps(ahead, 0) == [(0, 0), (0, 1), (0, 2)]
    assert steps(ahead, 4, 2) == [(4, 2)]
    ahead.close()
    assert steps(ahead, 5) == [(5, 0), (5, 1), (5, 2)]
    ahead.close()


def test_stopping_within_an_epoch() -> None:
    """Leaving an epoch early ends the thread; the next epoch starts from the beginning."""
    ahead = Prefetcher(Made().blocks, converted, epochs=9)
    for block in ahead.epoch(0, 0):
        assert block == (0, 0)
        break
    assert threads() == 0
    assert steps(ahead, 1) == [(1, 0), (1, 1), (1, 2)]
    ahead.close()


def test_not_across() -> None:
    """With across=False, blocks of the next epoch are made only on request."""
    made = Made()
    ahead = Prefetcher(made.blocks, converted, epochs=2, across=False)
    assert steps(ahead, 0) == [(0, 0), (0, 1), (0, 2)]
    assert threads() == 0
    assert len(made.made) == 3
    assert steps(ahead, 1) == [(1, 0), (1, 1), (1, 2)]


def test_error() -> None:
    """An error is raised in place of its block, in its epoch."""

    def blocks(epoch: int, first: int) -> Iterator[Any]:
        yield from Made().blocks(epoch, first)
        if epoch == 1:
            raise OSError("gone")

    ahead = Prefetcher(blocks, converted, epochs=9)
    assert len(steps(ahead, 0)) == 3
    with pytest.raises(OSError, match="gone"):
        steps(ahead, 1)
    assert threads() == 0
