"""Blocks of one epoch after the other, made ahead of their use, also over the ends of epochs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

import attrs

from aipcore.data.feed import Block, prefetch


@attrs.frozen
class _End:
    """Stands behind the last block of an epoch."""


class Ahead:
    """Makes and converts blocks in a thread, which goes on with the next epoch while this one is validated.

    Args:
        blocks: those of an epoch from a batch on.
        convert: what is yielded for a block.
        epochs: how many there are.
        across: whether to go on over the end of an epoch.
    """

    def __init__(
        self,
        blocks: Callable[[int, int], Iterator[Block]],
        convert: Callable[[Block], Any],
        *,
        epochs: int,
        across: bool = True,
    ) -> None:
        self._blocks = blocks
        self._convert = convert
        self._epochs = epochs
        self._across = across
        self._running: Iterator[Any] | None = None
        self._next = (0, 0)

    def epoch(self, epoch: int, first: int) -> Generator[Any, None, None]:
        """The converted blocks of an epoch from batch `first` on; who stops before the last gives up what is ahead."""
        if self._running is None or self._next != (epoch, first):
            self.close()
            self._running = prefetch(self._following(epoch, first), self._converted)
        complete = False
        try:
            for item in self._running:
                complete = isinstance(item, _End)
                if complete:
                    return
                yield item
        finally:
            self._next = (epoch + 1, 0)
            if not (complete and self._across):
                self.close()

    def close(self) -> None:
        """Ends the thread, and gives up what it made."""
        running, self._running = self._running, None
        if running is not None:
            running.close()  # type: ignore[attr-defined]

    def _following(self, epoch: int, first: int) -> Generator[Any, None, None]:
        for number in range(epoch, self._epochs if self._across else epoch + 1):
            blocks: Any = self._blocks(number, first if number == epoch else 0)
            with closing(blocks):
                yield from blocks
            yield _End()

    def _converted(self, item: Any) -> Any:
        return item if isinstance(item, _End) else self._convert(item)
