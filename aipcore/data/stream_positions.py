"""The positions of a stream to which reading can return."""

from __future__ import annotations

import logging
import threading
from contextlib import closing
from typing import Any

import attrs
import numpy as np

from aipcore.data.adapters.elements import same
from aipcore.data.stream import Source
from aipcore.errors import DataError, sentence
from aipcore.params.names import count

logger = logging.getLogger(__name__)

MOST_STATES = 64
"""The most states kept."""

STATE_BYTES = 64 * 2**20
"""The largest state that is saved. A stream with larger ones is read again up to the position."""

KEPT_BYTES = 64 * 2**20
"""The most bytes of all states kept."""

TRIED = 8
"""Elements that a restored iteration must repeat before its states are trusted."""


@attrs.frozen(kw_only=True, eq=False)
class Position:
    """A position between two elements of a source.

    Attributes:
        sample: the index of the next sample.
        element: the number of elements before.
        state: the state of the source, or None at the beginning.
        nbytes: the size of the state, if it is known.
    """

    sample: int
    element: int
    state: Any
    nbytes: int = 0


class Positions:
    """The positions of a source to which reading can return, in order.

    They reach back to the last batch that was trained on. If there are too many, every second one between the first and
    the last is removed.

    Args:
        first: the beginning.
    """

    def __init__(self, first: Position) -> None:
        self._first = first
        self._later: list[Position] = []
        # A reader in the background adds positions while a checkpoint looks one up.
        self._lock = threading.Lock()

    def add(self, position: Position) -> None:
        """Add a position. It replaces all positions that do not lie before it."""
        with self._lock:
            while self._later and self._later[-1].sample >= position.sample:
                self._later.pop()
            self._later.append(position)
            while len(self._later) > 2 and self._exceeded():
                del self._later[1:-1:2]

    def before(self, sample: int) -> Position:
        """Return the last position that does not lie after a sample."""
        with self._lock:
            return next((each for each in reversed(self._later) if each.sample <= sample), self._first)

    def forget(self, position: Position) -> None:
        """Remove the positions before one to which reading will not return."""
        with self._lock:
            self._later = [each for each in self._later if each.sample >= position.sample]

    def _exceeded(self) -> bool:
        return len(self._later) > MOST_STATES or sum(each.nbytes for each in self._later) > KEPT_BYTES


def state_bytes(state: Any) -> int:
    """Return the approximate size of a state."""
    if isinstance(state, dict):
        return sum(map(state_bytes, state.values()))
    if isinstance(state, list):
        return sum(map(state_bytes, state))
    return len(state) if isinstance(state, bytes | str) else 8


def in_mebibytes(nbytes: int) -> str:
    """Return a size in words."""
    return f"{nbytes / 2**20:,.0f} MiB" if nbytes >= 2**20 else f"{nbytes / 2**10:,.0f} KiB"


def as_arrays(state: Any) -> Any:
    """Return a state with arrays in place of bytes."""
    if isinstance(state, dict):
        return {name: as_arrays(value) for name, value in state.items()}
    return np.array(bytearray(state), np.uint8) if isinstance(state, bytes) else state


def as_bytes(state: Any) -> Any:
    """Return a state with bytes in place of arrays."""
    if isinstance(state, dict):
        return {name: as_bytes(value) for name, value in state.items()}
    return state.tobytes() if isinstance(state, np.ndarray) else state


def saved_position(
    state: dict[str, Any], origin: str, identity: dict[str, Any], index: int, processes: int
) -> Position:
    """Return the position of a saved state.

    Args:
        state: the state of a stream, or with the key "processes" those of all processes.
        origin: the name of the data in errors.
        identity: the kind of the source and the window of the stream now.
        index: the index of this process.
        processes: the number of processes that read samples of their own.

    Raises:
        DataError: the state belongs to another stream, or to another number of processes.
        ValueError, KeyError, TypeError: it is not a state.
    """
    parts = state.get("processes", [state])
    if len(parts) != processes:
        before = count(len(parts), "process")
        raise DataError(f"{origin} is sharded, and the checkpoint has the positions of {before}. Resume with {before}.")
    found = parts[index]
    position = Position(sample=int(found["sample"]), element=int(found["element"]), state=as_bytes(found["state"]))
    for name, ours in identity.items():
        theirs = found.get(name, ours)
        # The type of an iterable may have another name now.
        same = str(theirs).partition(" of type ")[0] == str(ours).partition(" of type ")[0]
        if not same and (position.sample or name == "window"):
            what = {"kind": "comes from", "window": "has --train.shuffle_buffer"}[name]
            raise DataError(
                f"The checkpoint's position in {origin} {what} {theirs}, but now it is {ours}. Resume with the data "
                "and parameters of the run."
            )
    return position


def resumption(source: Source) -> tuple[bool, str]:
    """Return True if the states of a source are saved, and the reason in words if they are too large."""
    size = source.state_bytes()
    if size > STATE_BYTES:
        return False, f": its state has {in_mebibytes(size)}, more than {in_mebibytes(STATE_BYTES)}"
    return source.exact or repeats(source), ""


def repeats(source: Source) -> bool:
    """Return True if an iteration restored from a state repeats the following elements."""
    with closing(source.elements()) as elements:
        for _ in range(3):
            next(elements)
        state = elements.state()
        following = [next(elements) for _ in range(TRIED)]
    try:
        with closing(source.elements()) as elements:
            elements.restore(state)
            if all(same(each, next(elements)) for each in following):
                return True
    except Exception as error:
        logger.warning("The state of %s cannot be restored: %s.", source.origin, sentence(error))
    return False


def same_content(one: Any, other: Any) -> bool:
    """Return True if two elements are equal or cannot be compared."""
    try:
        return same(one, other)
    except (TypeError, ValueError):
        return True
