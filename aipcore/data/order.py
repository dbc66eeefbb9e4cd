"""The order in which samples are visited: a function of (seed, position), never of what was visited before."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class SampleOrder:
    """Visits `size` samples again and again, each pass in an order of its own.

    Position `p` of the endless stream belongs to pass `p // size`; the order of pass `k` is a permutation drawn from a
    Philox generator keyed by `(seed, k)`. Any position can be asked for directly, so resuming is seeking, and an epoch
    may hold fewer or more samples than the data set.
    """

    def __init__(self, size: int, *, seed: int, shuffle: bool) -> None:
        self.size = size
        self.seed = seed
        self.shuffle = shuffle
        self._pass = -1
        self._permutation: npt.NDArray[np.int64] = np.arange(size)

    def indices(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """The sample indices at the positions `start <= p < stop` of the stream, shape [stop - start]."""
        parts = []
        position = start
        while position < stop:
            number, offset = divmod(position, self.size)
            count = min(stop - position, self.size - offset)
            parts.append(self._order_of(number)[offset : offset + count])
            position += count
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def _order_of(self, number: int) -> npt.NDArray[np.int64]:
        if self.shuffle and number != self._pass:
            generator = np.random.Generator(np.random.Philox(key=[self.seed, number]))
            self._permutation = generator.permutation(self.size)
            self._pass = number
        return self._permutation
