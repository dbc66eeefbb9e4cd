"""`tf.data.Dataset`: read as a stream, in its own batches if it is batched."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aipcore.data.adapters.elements import no_samples
from aipcore.data.stream import Elements, Source
from aipcore.errors import AipError, DataError, located_sentence

STACKED = 64
"""Samples that TensorFlow stacks into one element where the dataset has no batches of its own."""


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

    Raises:
        DataError: the elements cannot be used.
    """

    kind = "a tf.data.Dataset"
    exact = True

    def __init__(self, dataset: Any, origin: str, batched: bool | None = None, length: int | None = None) -> None:
        self.origin = origin
        self._given = dataset
        self.batched = _is_batched(dataset, origin) if batched is None else batched
        size = int(dataset.cardinality().numpy())
        self.endless = size == -1
        self.length = size if size >= 0 else length
        if self.length == 0:
            raise no_samples(origin)
        self._beginning: dict[str, bytes] | None = None
        self.stacked = not self.batched and _uniform(dataset.element_spec)
        self._dataset = dataset.batch(STACKED) if self.stacked else dataset

    def first(self, samples: int) -> Source:
        """See `Source`."""
        if not self.batched:
            return TensorSource(self._given.take(samples), self.origin, False)
        size = next(iter(self._leaves(self._given.element_spec))).shape[0]
        size = size or int(next(iter(self._leaves(next(iter(self._given))))).shape[0])
        cut = self._given.unbatch().take(samples).batch(size)
        return TensorSource(cut, self.origin, True, -(-samples // size))

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

    @property
    def has_state(self) -> bool:
        """True if the state of an iterator can be saved, once there is one."""
        return bool(self._beginning)

    def one_pass(self) -> Iterator[Any]:
        """See `Source`."""
        return iter(self._dataset)

    @staticmethod
    def _leaves(tree: Any) -> list[Any]:
        import tensorflow as tf

        return list(tf.nest.flatten(tree))


class _TensorElements(Elements):
    """An iteration over the passes of a dataset, each with an iterator."""

    def __init__(self, source: TensorSource) -> None:
        self._source = source
        self._iterator = source.iterator()
        self._pass = 0
        self._empty = True
        self._restored = False

    def __next__(self) -> Any:
        try:
            element = next(self._iterator, None)
            if element is None and not self._empty:
                self._pass += 1
                # A state at the end of a pass does not contain the number of draws.
                self._iterator = self._source.iterator(self._pass) if self._restored else self._source.following()
                self._restored = False
                element = next(self._iterator, None)
        except AipError:
            raise
        except Exception as error:
            raise DataError(f"{self._source.origin} failed: {located_sentence(error)}.") from error
        if element is None:
            raise DataError(f"{self._source.origin} returned no samples.")
        self._empty = False
        return element

    def state(self) -> Any:
        """See `Elements`."""
        if not self._source.has_state:
            return None
        return {"pass": self._pass, "empty": self._empty, "files": _saved(self._iterator)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Elements`."""
        _restore(self._iterator, state["files"], self._source.origin)
        self._pass, self._empty, self._restored = int(state["pass"]), bool(state["empty"]), True

    def close(self) -> None:
        """See `Elements`."""


def _saved(iterator: Any) -> dict[str, bytes]:
    """Return the state of an iterator; empty if it has a stateful function, such as a generator of Python."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        try:
            tf.train.Checkpoint(iterator=iterator).write(f"{folder}/iterator")
        except (tf.errors.FailedPreconditionError, tf.errors.UnimplementedError, tf.errors.InvalidArgumentError):
            return {}
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


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
    raise DataError(
        f"Each element of {origin} may be a batch of {sizes.pop()} or a sample. Return Stream(dataset, batched=True) "
        "or Stream(dataset, batched=False)."
    )


def _uniform(element_spec: Any) -> bool:
    import tensorflow as tf

    return all(
        isinstance(spec, tf.TensorSpec) and spec.shape.is_fully_defined() for spec in tf.nest.flatten(element_spec)
    )
