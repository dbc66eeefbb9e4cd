"""Iterables of samples or of batches: generators, streams of other libraries, and what `Stream` names."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

from aipcore.data.adapters.elements import batch_size, cut, no_samples
from aipcore.data.stream import Elements, Source, Stream
from aipcore.errors import AipError, DataError, located_sentence, sentence

logger = logging.getLogger(__name__)


def is_loader(data: Any) -> bool:
    """Return True if data is like PyTorch's `DataLoader`: an iterable of batches of a dataset."""
    return all(hasattr(data, name) for name in ("__iter__", "dataset", "batch_size"))


def has_batches(loader: Any) -> bool:
    """Return True if a loader makes batches; without a batch size and a sampler of batches, it yields samples."""
    return loader.batch_size is not None or getattr(loader, "batch_sampler", None) is not None


def refuse_split(data: Any, origin: str) -> None:
    """Reject a dataset of Hugging Face of which each process has a different part.

    Raises:
        DataError: aip would use only a part of each part.
    """
    parts = getattr(getattr(data, "_distributed", None), "world_size", 1)
    if parts > 1:
        raise DataError(
            f"{origin} is already split over {parts} processes. Leave out split_dataset_by_node: each "
            "process of aip trains its part of each batch."
        )


def refuse_batches(data: Any, origin: str) -> None:
    """Reject a dataset of grain whose elements are batches, unless a `Stream` declares what they are.

    Raises:
        DataError: its last transformations are `batch` and such that do not change the number of elements.
    """
    while type(data).__module__.startswith("grain."):
        kind = type(data).__name__
        if kind.startswith("Batch"):
            raise DataError(
                f"Each element of {origin} is a batch, as batch() of grain makes it. Leave out batch() and set "
                "--train.batch_size, or return Stream(dataset, batched=True). If a batch is one sample, return "
                "Stream(dataset, batched=False)."
            )
        parents: Any = getattr(data, "_parents", ())
        if len(parents) != 1 or not kind.startswith(("Map", "Prefetch", "Shuffle", "Slice", "Repeat")):
            return
        data = parents[0]


def called(function: Callable[[], Any], origin: str) -> Any:
    """Return the result of the function of a `Stream`.

    Raises:
        DataError: the function fails.
    """
    try:
        return function()
    except AipError:
        raise
    except Exception as error:
        raise DataError(f"{origin} cannot be iterated: {located_sentence(error)}.") from error


def has_state(data: Any) -> bool:
    """Return True if an iteration over the data has a state that can be saved and restored."""
    if all(hasattr(data, name) for name in ("state_dict", "load_state_dict")):
        return True
    iterates = getattr(data, "__iter__", None)
    # The iterator of an iterator is the object itself.
    return iterates is not None and not hasattr(data, "__len__") and hasattr(iterates(), "get_state")


class IterableSource(Source):
    """A source that is iterated again for each pass.

    An iteration can be resumed exactly if the iterator has `get_state()` and `set_state(state)`, or if the iterable or
    its iterator has `state_dict()` and `load_state_dict(state)`. The states are JSON values or bytes.

    Args:
        stream: the iterable.
        origin: the name of the data in errors.
        again: returns the data again, if the given object is an iterator, which can be read only once.
        samples: the number of samples of a pass; None: all.
    """

    kind = "an iterable"

    def __init__(
        self, stream: Stream, origin: str, again: Callable[[], Any] | None = None, samples: int | None = None
    ) -> None:
        self.origin = origin
        self._stream, self._again, self._samples = stream, again, samples
        self._untouched = True
        self._restored = False
        self._warned = False
        source = stream.source
        named = None if stream.made else source
        if named is not None and not isinstance(named, Iterator):
            self.kind = f"an iterable of type {type(named).__name__}"
        self.batched = bool(stream.batched)
        self.length = stream.length
        self.declared = stream.length is not None and samples is None
        if self.length is None and named is not None:
            self.length = _length(named)
        if samples is not None and self.length is not None:
            # The number of batches depends on their size.
            self.length = None if self.batched else min(samples, self.length)

    def first(self, samples: int) -> Source:
        """See `Source`."""
        return IterableSource(self._stream, self.origin, self._again, samples)

    def elements(self) -> Elements:
        """See `Source`."""
        return _Passes(self)

    def warn(self, method: str, reason: str) -> None:
        """Warn once that a state cannot be saved."""
        if not self._warned:
            logger.warning(
                "%s of %s returned a state that cannot be saved (%s), so the position is found by reading again. "
                "Return JSON values or bytes.",
                method,
                self.origin,
                reason,
            )
        self._warned = True

    def one_pass(self) -> Iterator[Any]:
        """See `Source`."""
        return self.read(self.opened(0)[1])

    def opened(self, number: int, state: Any = None) -> tuple[Any, Iterator[Any]]:
        """Return the iterable and an iterator over its pass `number`, from its beginning or from a saved state.

        Raises:
            DataError: the iterable cannot be iterated again.
        """
        given: Any = self._stream.source
        try:
            if self._stream.made:
                given = called(given, self.origin)
            elif isinstance(given, Iterator) and not self._untouched:
                fresh = None if self._again is None else self._again()
                fresh = fresh.source if isinstance(fresh, Stream) else fresh
                if fresh is None or fresh is given:
                    raise DataError(
                        f"{self.origin} returned the same iterator again, which can be read only once. Create it in "
                        "the method, or return Stream(function) with a function that creates it."
                    )
                given = fresh
            self._untouched = False
            given = _separated(given)
            self._restored = self._restored or state is not None
            if hasattr(given, "set_epoch"):
                given.set_epoch(number)
            if self._restored and hasattr(given, "load_state_dict"):
                given.load_state_dict(state or {})
            iterator = iter(given)
            if state is not None and not hasattr(given, "load_state_dict"):
                getattr(iterator, _methods(iterator)[1])(state)
            return given, iterator
        except AipError:
            raise
        except Exception as error:
            raise DataError(f"{self.origin} cannot be iterated: {located_sentence(error)}.") from error

    def read(self, iterator: Iterator[Any], samples: int = 0) -> Iterator[Any]:
        """Yield the elements of a pass, of which `samples` samples are already read, up to the limit."""
        number = 0 if self.batched else samples
        while self._samples is None or samples < self._samples:
            try:
                element = next(iterator)
            except StopIteration:
                return
            except AipError:
                raise
            except Exception as error:
                raise DataError(f"{self.origin} failed at element {number}: {located_sentence(error)}.") from error
            if self.batched and self._samples is not None:
                size = batch_size(element, self.origin)
                if samples + size > self._samples:
                    element = cut(element, self._samples - samples)
                samples += size
            else:
                samples += 1
            number += 1
            yield element


def _length(iterable: Any) -> int | None:
    """Return the length of an iterable, or None if it has none. A loader of an iterable raises `TypeError`."""
    try:
        return len(iterable)
    except TypeError:
        return None


class _Passes(Elements):
    """An iteration over the passes of an `IterableSource`."""

    def __init__(self, source: IterableSource) -> None:
        self._source = source
        self._pass = -1
        self._read = 0
        self._given: Any = None
        self._iterator: Iterator[Any] = iter(())
        self._elements: Iterator[Any] = iter(())

    @property
    def pass_index(self) -> int:
        """See `Elements`."""
        return self._pass

    def __next__(self) -> Any:
        for _ in range(2):
            for element in self._elements:
                self._read += batch_size(element, self._source.origin) if self._source.batched else 1
                return element
            if self._pass >= 0 and not self._read:
                break
            self._open(self._pass + 1)
        raise no_samples(self._source.origin, "" if self._pass < 1 else f"in pass {self._pass + 1}")

    def state(self) -> Any:
        """See `Elements`."""
        if self._pass < 0:
            self._open(0)
        if _has_shuffle_buffer(self._given):
            return None
        holder = self._given if hasattr(self._given, "load_state_dict") else self._iterator
        getter, _ = _methods(holder)
        if not getter:
            return None
        if not self._read:
            # Before the first element, `state_dict()` may return the state of the pass before.
            return {"pass": self._pass, "read": 0, "state": None}
        found = getattr(holder, getter)()
        if isinstance(found, bytes):
            return {"pass": str(self._pass).encode(), "read": str(self._read).encode(), "state": found}
        try:
            return json.loads(json.dumps({"pass": self._pass, "read": self._read, "state": found}))
        except (TypeError, ValueError) as error:
            self._source.warn(f"{getter}() of {type(holder).__name__}", sentence(error))
            return None

    def restore(self, state: Any) -> None:
        """See `Elements`."""
        self.close()
        number, read = int(state["pass"]), int(state["read"])
        self._take(number, read, *self._source.opened(number, state["state"]))

    def close(self) -> None:
        """See `Elements`."""
        if hasattr(self._iterator, "close"):
            self._iterator.close()

    def _open(self, number: int) -> None:
        self._take(number, 0, *self._source.opened(number))

    def _take(self, number: int, read: int, given: Any, iterator: Iterator[Any]) -> None:
        self._pass, self._read, self._given, self._iterator = number, read, given, iterator
        self._elements = self._source.read(iterator, read)


def _has_shuffle_buffer(data: Any) -> bool:
    """Return True if Hugging Face shuffles the data in a buffer, whose content is not part of `state_dict()`."""
    rest = [getattr(data, "_ex_iterable", None)]
    while rest:
        each = rest.pop()
        if "BufferShuffled" in type(each).__name__:
            return True
        if each is not None:
            rest += [getattr(each, "ex_iterable", None), *getattr(each, "ex_iterables", [])]
    return False


def _separated(data: Any) -> Any:
    """Return a dataset of Hugging Face with a state of its own.

    Each object inside the dataset has the state of the iteration that was begun last, also if another dataset, made by
    `take`, `skip` or `map`, shares the object.
    """
    if not hasattr(data, "_ex_iterable"):
        return data
    # `copy.copy` would share the dictionary of attributes.
    made = object.__new__(type(data))
    made.__dict__ |= data.__dict__
    made._ex_iterable = _copied(data._ex_iterable)
    return made


def _copied(examples: Any) -> Any:
    made = copy.copy(examples)
    if hasattr(made, "ex_iterable"):
        made.ex_iterable = _copied(made.ex_iterable)
    if hasattr(made, "ex_iterables"):
        made.ex_iterables = [_copied(each) for each in made.ex_iterables]
    return made


def _methods(holder: Any) -> tuple[str, str]:
    """Return the names of the methods that get and set the state of an object; empty if it has none."""
    pairs = (("get_state", "set_state"), ("state_dict", "load_state_dict"))
    return next((pair for pair in pairs if all(callable(getattr(holder, name, None)) for name in pair)), ("", ""))
