"""`tf.data.Dataset`: read as a stream, in its own batches if it is batched."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from aipcore.data.adapters.elements import batch_size, bytes_of, no_samples
from aipcore.data.stream import Elements, Source
from aipcore.errors import AipError, DataError, located_sentence

STACKED, STACKED_BYTES = 256, 2**20
"""The most samples, and bytes of samples, that TensorFlow stacks into one element where there are no batches."""

FETCHED, FETCHED_BYTES = 8, 2**22
"""The most elements, and bytes of elements, that one call takes from an iterator."""


def is_tf_dataset(data: Any) -> bool:
    """Return True if data is a `tf.data.Dataset`. TensorFlow is not imported."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(data, tensorflow.data.Dataset)


class TensorSource(Source):
    """A `tf.data.Dataset` of samples or batches.

    A dataset is batched if all its tensors have a first axis of unknown length, as after `batch(n)`. It has samples if
    one of its tensors has no axis. Otherwise the author must say which.

    Args:
        dataset: the dataset. Its elements are `inputs`, `(inputs, targets)` or `(inputs, targets, weights)`.
        origin: the name of the data in errors.
        batched: the answer of the author, if there is one.
        length: the number of elements of a pass, if the dataset does not know it.
        stack: True to let TensorFlow stack samples.

    Raises:
        DataError: the elements cannot be used.
    """

    kind = "a tf.data.Dataset"
    exact = True

    def __init__(
        self,
        dataset: Any,
        origin: str,
        batched: bool | None = None,
        length: int | None = None,
        *,
        stack: bool = True,
    ) -> None:
        self.origin = origin
        self._given = dataset
        self.batched = _is_batched(dataset, origin) if batched is None else batched
        size = int(dataset.cardinality().numpy())
        self.endless = size == -1
        self.length = size if size >= 0 else length
        if self.length == 0:
            raise no_samples(origin)
        self._beginning: dict[str, bytes] | None = None
        self._several: Any = None
        self._measured = False
        self._last_pass: Any = None
        self._guessed = batched is None and self.batched
        self.stacked = _stackable(dataset.element_spec) if not self.batched and stack else 0
        self._dataset = dataset.batch(self.stacked).prefetch(1) if self.stacked else dataset

    def first(self, samples: int) -> Source:
        """See `Source`."""
        if not self.batched:
            return TensorSource(self._given.take(samples), self.origin, False)
        return TensorSource(_cut(self._given, samples), self.origin, True)

    def single(self) -> Source:
        """See `Source`."""
        return TensorSource(self._given, self.origin, False, self.length, stack=False) if self.stacked else self

    def state_bytes(self) -> int:
        """See `Source`."""
        with _written(self._last_pass) as files:
            return sum(file.stat().st_size for file in files)

    def elements(self) -> Elements:
        """See `Source`."""
        return _TensorElements(self)

    def iterator(self, number: int = 0) -> Any:
        """Return an iterator over the pass `number`.

        A shuffled dataset draws new seeds for each iterator that is created or restored. The state of the first
        iterator contains the number of draws, so that restoring it leads back to the beginning.
        """
        made = iter(self._dataset)
        if self._beginning is None:
            self._beginning = _saved(made)
        if self._beginning:
            _restore(made, self._beginning, self.origin)
        for _ in range(number):
            made = iter(self._dataset)
        return made

    def following(self) -> Any:
        """Return an iterator over the pass after that of the last iterator."""
        return iter(self._dataset)

    def take(self, iterator: Any) -> list[Any]:
        """Return the next elements of an iterator, several if they are small; none at its end."""
        if self._several is not None:
            *elements, number = self._several(iterator)
            return list(elements[: int(number)])
        element = next(iterator, None)
        if element is None:
            return []
        if not self._measured:
            self._measured = True
            number = min(FETCHED, FETCHED_BYTES // max(1, bytes_of(element)))
            if number > 1 and _is_dense(self._dataset.element_spec):
                self._several = _taker(self._dataset.element_spec, number)
        return [element]

    @property
    def has_state(self) -> bool:
        """True if the state of an iterator can be saved, once there is one."""
        return bool(self._beginning)

    def one_pass(self) -> Iterator[Any]:
        """See `Source`."""
        self._last_pass = iter(self._dataset)
        return self._read(self._last_pass)

    def _read(self, iterator: Iterator[Any]) -> Iterator[Any]:
        try:
            if self._guessed:
                # The last of three may be smaller.
                first = list(islice(iterator, 3))
                sizes = [batch_size(each, self.origin) for each in first]
                if len(sizes) == 3 and sizes[0] != sizes[1]:
                    raise _unclear(self.origin, "of varying size")
                yield from first
            yield from iterator
        except AipError:
            raise
        except Exception as error:
            raise self.failure(error) from error

    def failure(self, error: Exception) -> DataError:
        """Return the error for a dataset that fails."""
        return DataError(f"{self.origin} failed: {located_sentence(error)}.")


class _TensorElements(Elements):
    """An iteration over the passes of a dataset, each with an iterator."""

    def __init__(self, source: TensorSource) -> None:
        self._source = source
        self._iterator = source.iterator()
        self._ahead: deque[Any] = deque()
        self._pass = 0
        self._empty = True
        self._restored = False

    @property
    def pass_index(self) -> int:
        """See `Elements`."""
        return self._pass

    @property
    def between(self) -> bool:
        """See `Elements`."""
        return not self._ahead

    def __next__(self) -> Any:
        if not self._ahead:
            self._ahead.extend(self._taken())
        return self._ahead.popleft()

    def _taken(self) -> list[Any]:
        try:
            found = self._source.take(self._iterator)
            if not found and not self._empty:
                self._pass += 1
                finished = self._iterator
                # A state at the end of a pass does not contain the number of draws.
                self._iterator = self._source.iterator(self._pass) if self._restored else self._source.following()
                self._restored = False
                # The thread drops the iterator, for which TensorFlow waits until its own threads have ended.
                threading.Thread(target=id, args=(finished,), name="aip-finished-pass").start()
                del finished
                found = self._source.take(self._iterator)
        except AipError:
            raise
        except Exception as error:
            raise self._source.failure(error) from error
        if not found:
            raise no_samples(self._source.origin, "" if self._pass < 1 else f"in pass {self._pass + 1}")
        self._empty = False
        return found

    def state(self) -> Any:
        """See `Elements`."""
        if not self._source.has_state:
            return None
        return {"pass": self._pass, "empty": self._empty, "files": _saved(self._iterator)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Elements`."""
        _restore(self._iterator, state["files"], self._source.origin)
        self._ahead.clear()
        self._pass, self._empty, self._restored = int(state["pass"]), bool(state["empty"]), True

    def close(self) -> None:
        """See `Elements`."""


def _saved(iterator: Any) -> dict[str, bytes]:
    """Return the state of an iterator; empty if it has a stateful function, such as a generator of Python."""
    with _written(iterator) as files:
        return {file.name: file.read_bytes() for file in files}


@contextmanager
def _written(iterator: Any) -> Iterator[list[Path]]:
    """Write the state of an iterator to temporary files."""
    import tensorflow as tf

    stateful = (tf.errors.FailedPreconditionError, tf.errors.UnimplementedError, tf.errors.InvalidArgumentError)
    with tempfile.TemporaryDirectory() as folder:
        try:
            tf.train.Checkpoint(iterator=iterator).write(f"{folder}/iterator")
            files = sorted(Path(folder).iterdir())
        except stateful:
            files = []
        yield files


def _restore(iterator: Any, state: Mapping[str, bytes], origin: str) -> None:
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        for name, content in state.items():
            (Path(folder) / Path(name).name).write_bytes(content)
        try:
            tf.train.Checkpoint(iterator=iterator).read(f"{folder}/iterator").assert_consumed()
        except Exception as error:
            raise DataError(f"The saved position of {origin} cannot be restored: {located_sentence(error)}.") from error


def _is_batched(dataset: Any, origin: str) -> bool:
    import tensorflow as tf

    specs = tf.nest.flatten(dataset.element_spec)
    for spec in specs:
        if isinstance(spec, tf.SparseTensorSpec):
            raise DataError(
                f"{origin} yields sparse tensors. Return dataset.map(lambda x, y: (tf.sparse.to_dense(x), y))."
            )
        if spec.shape.rank is None:
            raise DataError(f"{origin} yields tensors of unknown rank. Set their shapes, e.g. with tf.ensure_shape.")
    if any(spec.shape.rank == 0 for spec in specs):
        return False
    sizes = {spec.shape[0] for spec in specs}
    if sizes == {None}:
        return True
    if len(sizes) > 1:
        return False
    raise _unclear(origin, f"of {sizes.pop()}")


def _unclear(origin: str, size: str) -> DataError:
    return DataError(
        f"Each element of {origin} may be a batch {size} or a sample. Return Stream(dataset, batched=True) or "
        "Stream(dataset, batched=False)."
    )


def _cut(dataset: Any, samples: int) -> Any:
    """Return the first samples of a dataset of batches. Its last batch may be smaller."""
    import tensorflow as tf

    def step(before: Any, element: Any) -> Any:
        first = tf.nest.flatten(element)[0]
        size = tf.cast(first.nrows() if isinstance(first, tf.RaggedTensor) else tf.shape(first)[0], tf.int64)
        kept = tf.minimum(size, samples - before)
        return before + size, (before, tf.nest.map_structure(lambda part: part[:kept], element))

    scanned = dataset.scan(tf.zeros((), tf.int64), step).take_while(lambda before, _: before < samples)
    return scanned.map(lambda _, element: element)


def _is_dense(element_spec: Any) -> bool:
    import tensorflow as tf

    return all(
        isinstance(spec, tf.TensorSpec) and spec.shape.rank is not None for spec in tf.nest.flatten(element_spec)
    )


def _taker(element_spec: Any, number: int) -> Any:
    """Return a compiled function that returns the next elements of an iterator, and how many of them exist."""
    import tensorflow as tf

    def nothing() -> Any:
        return tf.nest.map_structure(
            lambda spec: tf.zeros([size or 0 for size in spec.shape], spec.dtype), element_spec
        )

    def take(iterator: Any) -> list[Any]:
        found = [iterator.get_next_as_optional() for _ in range(number)]
        count = tf.add_n([tf.cast(each.has_value(), tf.int32) for each in found])
        return [*(tf.cond(each.has_value(), each.get_value, nothing) for each in found), count]

    return tf.function(take, autograph=False)


def _stackable(element_spec: Any) -> int:
    """Return the number of samples to stack into an element; 0 if their shapes may differ."""
    import tensorflow as tf

    specs = tf.nest.flatten(element_spec)
    # A mapping needs `to_sample`, which is called for each sample.
    if isinstance(element_spec, Mapping) or not all(
        isinstance(spec, tf.TensorSpec) and spec.shape.is_fully_defined() for spec in specs
    ):
        return 0
    sample: int = sum(spec.shape.num_elements() * max(1, spec.dtype.size) for spec in specs)
    return max(1, min(STACKED, STACKED_BYTES // max(1, sample)))
