"""`keras.utils.PyDataset`: batches by index, each computed once per epoch."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from aipcore.data.adapters.elements import batch_size, cut, no_samples
from aipcore.data.sampler import SampleOrder
from aipcore.data.stream import Elements, Source
from aipcore.errors import DataError, located_sentence


def is_py_dataset(data: Any) -> bool:
    """Return True if data is a `keras.utils.PyDataset`. Keras is not imported."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(data, keras.utils.PyDataset)


class BatchSource(Source):
    """The batches of a `PyDataset`, in a new random order in each pass if they are shuffled.

    As in `Model.fit`, `on_epoch_begin` and `on_epoch_end` are called around each pass, and `workers` threads compute
    up to `max_queue_size` batches ahead.

    Args:
        dataset: the dataset.
        origin: the name of the data in errors.
        samples: the number of samples of a pass; None: all.

    Raises:
        DataError: the dataset has no batches or no length.
    """

    kind = "a PyDataset"
    batched = True
    exact = True

    def __init__(self, dataset: Any, origin: str, samples: int | None = None) -> None:
        self.origin = origin
        self.dataset = dataset
        self.samples = samples
        if dataset.use_multiprocessing:
            raise DataError(
                f"{origin} returned a PyDataset with use_multiprocessing=True. Create it with "
                "super().__init__(workers=4, use_multiprocessing=False), so that 4 threads compute its batches. For "
                "worker processes, return an object with __len__ and __getitem__ of samples instead of batches."
            )
        if dataset.num_batches is None:
            raise DataError(f"{origin} returned a PyDataset of unknown length. Define __len__ or num_batches.")
        self.length = int(dataset.num_batches)
        if self.length < 1:
            raise no_samples(origin)
        self._begun = -1
        if samples is not None:
            self._rows = batch_size(dataset[0], origin)
            self.length = min(self.length, -(-samples // self._rows))
        self.order = SampleOrder(self.length, seed=0, shuffle=False)

    def shuffle(self, seed: int) -> bool:
        """See `Source`."""
        assert self.length is not None
        self.order = SampleOrder(self.length, seed=seed, shuffle=True)
        return True

    def first(self, samples: int) -> Source:
        """See `Source`."""
        return BatchSource(self.dataset, self.origin, samples)

    def elements(self) -> Elements:
        """See `Source`."""
        return _BatchElements(self)

    def one_pass(self) -> Iterator[Any]:
        """See `Source`."""
        assert self.length is not None
        return map(self.read, range(self.length))

    def begin(self, number: int) -> None:
        """Begin a pass. The hooks of the passes before it are called too, since they may change the dataset.

        Raises:
            DataError: the dataset has begun a later pass and cannot return to an earlier one.
        """
        if number < self._begun and self._has_hooks():
            raise DataError(
                f"{self.origin} cannot return to pass {number + 1}, since its on_epoch_begin or on_epoch_end may have "
                "changed it. Make a new trainer."
            )
        while self._begun < number:
            if self._begun >= 0:
                self.dataset.on_epoch_end()
            self._begun += 1
            self.dataset.on_epoch_begin()

    def _has_hooks(self) -> bool:
        import keras

        base, kind = keras.utils.PyDataset, type(self.dataset)
        return any(getattr(kind, name) is not getattr(base, name) for name in ("on_epoch_begin", "on_epoch_end"))

    def read(self, index: int) -> Any:
        """Return a batch.

        Raises:
            DataError: it cannot be computed.
        """
        try:
            batch = self.dataset[index]
        except Exception as error:
            raise DataError(f"{self.origin} failed at batch {index}: {located_sentence(error)}.") from error
        if self.samples is not None and (index + 1) * self._rows > self.samples:
            return cut(batch, self.samples - index * self._rows)
        return batch


class _BatchElements(Elements):
    def __init__(self, source: BatchSource) -> None:
        self._source = source
        self._next = 0
        self._ahead: deque[Future[Any]] = deque()
        workers = source.dataset.workers
        self._threads = ThreadPoolExecutor(workers, "aip-py-dataset") if workers > 1 else None

    @property
    def pass_index(self) -> int:
        """See `Elements`."""
        assert self._source.length is not None
        return max(0, self._next - 1) // self._source.length

    def __next__(self) -> Any:
        source, length = self._source, self._source.length
        assert length is not None
        number, position = divmod(self._next, length)
        source.begin(number)
        if self._threads is None:
            batch = source.read(self._index(self._next))
        else:
            # Not beyond the pass: its end may change the dataset.
            most = min(length - position, max(1, source.dataset.max_queue_size))
            while len(self._ahead) < most:
                index = self._index(self._next + len(self._ahead))
                self._ahead.append(self._threads.submit(source.read, index))
            batch = self._ahead.popleft().result()
        self._next += 1
        return batch

    def state(self) -> Any:
        """See `Elements`."""
        return {"batch": self._next}

    def restore(self, state: Any) -> None:
        """See `Elements`."""
        self._drop()
        self._next = int(state["batch"])

    def close(self) -> None:
        """See `Elements`."""
        self._drop()
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    def _drop(self) -> None:
        while self._ahead:
            self._ahead.pop().cancel()

    def _index(self, position: int) -> int:
        return int(self._source.order.indices(position, position + 1)[0])
