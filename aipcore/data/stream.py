"""Streams: data that is read in an order of its own and never held as a whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs

from aipcore.errors import DataError


@attrs.frozen(eq=False)
class Stream:
    """Data to read as a stream: in its own order, in bounded memory.

    Return one from `train_data` or a similar method for an iterable that must not be kept in memory, or one whose
    elements are batches.

    Attributes:
        source: an iterable, or a function without arguments that returns one. The function is called for each pass
            over the data and for each resumed run.
        batched: True if each element is a batch: samples stacked along the first axis. By default, a `tf.data.Dataset`
            and a `DataLoader` of PyTorch are known to be batched or not, and other iterables have samples.
        length: the number of elements of a pass. Without it, `len(source)` is used, or the elements are counted once
            if an epoch is a pass.
        sharded: True if the source is a function of the index of this process and the number of processes, and returns
            an iterable over the samples of this process. Otherwise each process reads all elements.
    """

    source: Iterable[Any] | Callable[..., Iterable[Any]]
    batched: bool | None = attrs.field(default=None, kw_only=True)
    length: int | None = attrs.field(default=None, kw_only=True)
    sharded: bool = attrs.field(default=False, kw_only=True)

    @property
    def made(self) -> bool:
        """True if the source is a function that returns an iterable."""
        return callable(self.source) and (isinstance(self.source, type) or not hasattr(self.source, "__iter__"))

    def __attrs_post_init__(self) -> None:
        if not self.made and not hasattr(self.source, "__iter__"):
            raise DataError(
                f"Stream was given {type(self.source).__name__}. Pass an iterable, or a function that returns one."
            )
        if self.sharded and not self.made:
            raise DataError(
                f"Stream was given {type(self.source).__name__} and sharded=True. Give a function, e.g. "
                "Stream(lambda index, count: read(files[index::count]), sharded=True)."
            )
        if self.length is not None and self.length < 1:
            raise DataError(f"Stream was given the length {self.length}. Pass the number of elements, at least 1.")


class Elements(ABC):
    """An endless iteration over the elements of a source, pass after pass."""

    @property
    @abstractmethod
    def pass_index(self) -> int:
        """The zero-based pass of the last element."""

    @property
    def between(self) -> bool:
        """True if the state is that after the last element; False if the iteration has read ahead."""
        return True

    @abstractmethod
    def __next__(self) -> Any:
        """Return the next element.

        Raises:
            DataError: the source fails, or a pass has no element.
        """

    def state(self) -> Any:
        """Return the position as JSON values or as bytes by name; None if the source has no state of its own."""
        return None

    def restore(self, state: Any) -> None:
        """Continue from a state of an iteration over the same source."""
        raise NotImplementedError

    @abstractmethod
    def close(self) -> None:
        """Release what the iteration holds."""


class Source(ABC):
    """A source of elements, which are samples or batches.

    Attributes:
        origin: the name of the data in errors.
        kind: the kind of the source in words, e.g. "a tf.data.Dataset".
        batched: True if each element is a batch.
        stacked: the number of samples that are stacked into each element but form no batch; 0: each element is one.
        length: the number of elements of a pass, of samples if they are stacked; None: unknown.
        declared: True if the length is the author's, and may be wrong.
        endless: True if a pass never ends.
        exact: True if a state always restores the same elements, False if that must be tried.
    """

    origin: str
    kind: str
    batched: bool = False
    stacked: int = 0
    length: int | None = None
    declared: bool = False
    endless: bool = False
    exact: bool = False

    @abstractmethod
    def elements(self) -> Elements:
        """Return an iteration from the beginning."""

    @abstractmethod
    def one_pass(self) -> Iterator[Any]:
        """Return an iterator over the elements of one pass."""

    def single(self) -> Source:
        """Return the source whose elements are single samples, if they are only stacked."""
        return self

    def state_bytes(self) -> int:
        """Return the size of the state after the first elements, which `one_pass` has returned; 0: small."""
        return 0

    def shuffle(self, seed: int) -> bool:
        """Read the elements of each pass in a new random order, derived from the seed; False if that is impossible."""
        return False

    @abstractmethod
    def first(self, samples: int) -> Source:
        """Return the source of which each pass has only the first samples."""
