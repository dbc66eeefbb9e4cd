"""Random numbers for a block of samples, with one stream per sample."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

MULTIPLIERS = (np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157))
KEY_STEPS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B))
ROUNDS = 10
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


class BatchRandom:
    """Random numbers for n samples, one row each. A row depends only on its sample and visit, not on other rows.

    The streams are those of `np.random.Philox(key=(seed, visit), counter=(0, 0, position + 1, index))`: Philox4x64-10
    of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011), vectorized over the rows.

    Args:
        seed: the seed of the run.
        visits: the number of earlier visits of each sample, shape [n].
        position: the position of the processor among all.
        indices: the sample indices, shape [n].
    """

    def __init__(self, seed: int, visits: npt.NDArray[np.int64], position: int, indices: npt.NDArray[np.int64]) -> None:
        self._keys = np.full(len(indices), seed, np.uint64), np.asarray(visits).astype(np.uint64)
        self._position = np.uint64(position + 1)
        self._indices = np.asarray(indices).astype(np.uint64)
        self._drawn = 0

    def __len__(self) -> int:
        return len(self._indices)

    def random(self, *shape: int) -> npt.NDArray[np.float64]:
        """Return uniform numbers in [0, 1), float64 of shape [n, *shape]."""
        words = self._words(math.prod(shape)) >> np.uint64(11)
        return np.asarray(words * 2.0**-53, np.float64).reshape(len(self), *shape)

    def uniform(self, low: float, high: float, *shape: int) -> npt.NDArray[np.float64]:
        """Return uniform numbers in [low, high), float64 of shape [n, *shape]."""
        return low + (high - low) * self.random(*shape)

    def integers(self, low: int, high: int, *shape: int) -> npt.NDArray[np.int64]:
        """Return integers in [low, high), at most 2**32 apart, int64 of shape [n, *shape]."""
        if not 0 < high - low <= 2**32:
            raise ValueError(f"integers({low}, {high}): high must be above low, by at most 2**32")
        return low + np.floor(self.random(*shape) * (high - low)).astype(np.int64)

    def normal(self, mean: float = 0.0, deviation: float = 1.0, *shape: int) -> npt.NDArray[np.float64]:
        """Return normally distributed numbers by the Box-Muller method (1958), float64 of shape [n, *shape]."""
        pairs = self.random(2, *shape)
        radius = np.sqrt(-2.0 * np.log1p(-pairs[:, 0]))
        return np.asarray(mean + deviation * radius * np.cos(2.0 * np.pi * pairs[:, 1]))

    def _words(self, count: int) -> Words:
        """Return the next `count` words of each row, shape [n, count]."""
        first, last = self._drawn // 4, -(-(self._drawn + count) // 4)
        blocks = self._blocks(np.arange(first + 1, last + 1, dtype=np.uint64))
        start = self._drawn - 4 * first
        self._drawn += count
        return blocks[:, start : start + count]

    def _blocks(self, counters: Words) -> Words:
        """Return the words of the given blocks, four per block, shape [n, 4 * blocks]."""
        shape = len(self), len(counters)
        words: list[Any] = [
            np.broadcast_to(counters, shape),
            np.zeros(shape, np.uint64),
            np.broadcast_to(self._position, shape),
            np.broadcast_to(self._indices[:, None], shape),
        ]
        keys: list[Any] = [key[:, None] for key in self._keys]
        for _ in range(ROUNDS):
            high0, low0 = _product(words[0], MULTIPLIERS[0])
            high1, low1 = _product(words[2], MULTIPLIERS[1])
            words = [high1 ^ words[1] ^ keys[0], low1, high0 ^ words[3] ^ keys[1], low0]
            keys = [key + step for key, step in zip(keys, KEY_STEPS, strict=True)]
        return np.stack(words, axis=-1).reshape(len(self), -1)


def partner_indices(uniform: Any, index: Any, size: int) -> Any:
    """Return the indices of partners: each other sample is equally probable. A single sample is its own partner.

    Args:
        uniform: random numbers in [0, 1).
        index: the index of the sample, or an array of indices that broadcasts against `uniform`.
        size: the number of samples.
    """
    return (index + 1 + np.floor(uniform * (size - 1)).astype(np.int64)) % size


def _product(words: Words, factor: np.uint64) -> tuple[Words, Words]:
    """Return the high and the low 64 bits of 128-bit products."""
    low, high = words & LOW, words >> HALF
    factor_low, factor_high = factor & LOW, factor >> HALF
    carried = high * factor_low + (low * factor_low >> HALF)
    middle = low * factor_high + (carried & LOW)
    return high * factor_high + (carried >> HALF) + (middle >> HALF), words * factor
