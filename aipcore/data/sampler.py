"""The order of samples, as a function of the seed and the position."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


@attrs.frozen(kw_only=True, eq=False)
class Visits:
    """Consecutive positions of the endless stream of samples.

    Attributes:
        indices: the sample indices, shape [n].
        epochs: the number of earlier visits of each sample, shape [n].
    """

    indices: Indices
    epochs: Indices

    def cut(self, size: int) -> list[Visits]:
        """Return the visits in parts of at most `size`."""
        starts = range(0, len(self.indices), size)
        return [Visits(indices=self.indices[n : n + size], epochs=self.epochs[n : n + size]) for n in starts]


@attrs.frozen(kw_only=True, eq=False)
class Buckets:
    """The grouping of samples of similar length into batches.

    Within windows of `window` batches of the shuffled order, samples are sorted by length and cut into batches, and the
    batches are shuffled. Every sample still occurs once per pass, and batches still differ from pass to pass.

    Attributes:
        lengths: the length of each sample, in any unit, shape [size].
        batch_size: samples in a batch.
        window: batches in a window; larger windows pad less and mix less.
    """

    lengths: npt.NDArray[np.int64]
    batch_size: int
    window: int


class SampleOrder:
    """An endless stream of `size` samples, with a different order on each pass.

    Position `p` of the stream belongs to pass `p // size`; the order of pass `k` is a permutation drawn from a Philox
    generator keyed by `(seed, k)`. Any position can be read directly. Resuming is therefore a seek, and an epoch may
    hold fewer or more samples than the dataset.
    """

    def __init__(self, size: int, *, seed: int, shuffle: bool, buckets: Buckets | None = None) -> None:
        self.size = size
        self.seed = seed
        self.shuffle = shuffle
        self.buckets = buckets
        self._pass = -1
        self._permutation: Indices = np.arange(size)

    def indices(self, start: int, stop: int) -> Indices:
        """Return the sample indices at the positions `start <= p < stop` of the stream, shape [stop - start]."""
        return self.visits(start, stop).indices

    def visits(self, start: int, stop: int) -> Visits:
        """Return the samples at the positions `start <= p < stop` of the stream, with counts of earlier visits."""
        parts, epochs = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        position = start
        while position < stop:
            number, offset = divmod(position, self.size)
            count = min(stop - position, self.size - offset)
            parts.append(self._order_of(number)[offset : offset + count])
            epochs.append(np.full(count, number))
            position += count
        return Visits(indices=np.concatenate(parts), epochs=np.concatenate(epochs))

    def _order_of(self, number: int) -> Indices:
        if number == self._pass:
            return self._permutation
        permutation = np.arange(self.size)
        if self.shuffle or self.buckets is not None:
            generator = np.random.Generator(np.random.Philox(key=[self.seed, number]))
            if self.shuffle:
                permutation = generator.permutation(self.size)
            if self.buckets is not None:
                permutation = _bucketed(permutation, self.buckets, generator if self.shuffle else None)
        self._pass, self._permutation = number, permutation
        return permutation


class SequentialOrder:
    """The order of a stream: sample indices count on without end.

    Args:
        processes: the number of processes if each reads samples of its own; these are counted in each process. The
            positions must be multiples of it.
    """

    def __init__(self, processes: int = 1) -> None:
        self.processes = processes

    def visits(self, start: int, stop: int) -> Visits:
        """Return the samples at the positions `start <= p < stop`, each visited for the first time."""
        indices = np.arange(start // self.processes, stop // self.processes)
        return Visits(indices=indices, epochs=np.zeros_like(indices))


def _bucketed(order: Indices, buckets: Buckets, generator: np.random.Generator | None) -> Indices:
    span = buckets.window * buckets.batch_size
    windows = [order[start : start + span] for start in range(0, len(order), span)]
    windows = [window[np.argsort(buckets.lengths[window], kind="stable")] for window in windows]
    ordered = np.concatenate(windows)
    if generator is None:
        return ordered
    # A smaller batch stays at the end, so that the others keep their places within an epoch.
    full = len(ordered) // buckets.batch_size * buckets.batch_size
    batches = ordered[:full].reshape(-1, buckets.batch_size)
    return np.concatenate([batches[generator.permutation(len(batches))].reshape(-1), ordered[full:]])
