"""Memory that processes share, and objects written to it: arrays lie there as they are, the rest is pickled."""

from __future__ import annotations

import mmap
import os
import pickle
import struct
import tempfile
from collections.abc import Callable
from typing import Any

SMALLEST = 2**16
ALIGNMENT = 64

START = 8
"""Where the object begins; the first byte says whether anybody waits for the area still."""

Dump = Callable[[Any, Callable[[pickle.PickleBuffer], object]], bytes]


def plain_dump(value: Any, keep: Callable[[pickle.PickleBuffer], object]) -> bytes:
    """The pickle of a value; `keep` is handed each array in it."""
    return pickle.dumps(value, protocol=5, buffer_callback=keep)


class Area:
    """Memory behind a file descriptor. It has no name, so that nothing is left of it when the last process ends."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._map: mmap.mmap | None = None

    @classmethod
    def make(cls) -> Area:
        """A new one, empty."""
        if hasattr(os, "memfd_create"):
            return cls(os.memfd_create("aip-workers", os.MFD_CLOEXEC))
        with tempfile.TemporaryFile() as file:
            return cls(os.dup(file.fileno()))

    def view(self, size: int) -> memoryview:
        """The first bytes, at least `size` of them; the area grows as needed."""
        if self._map is None or len(self._map) < size:
            room = os.fstat(self.descriptor).st_size
            if room < size:
                room = max(SMALLEST, 1 << (size - 1).bit_length())
                os.ftruncate(self.descriptor, room)
            # Arrays may still look at the old map, which goes when they do.
            self._map = mmap.mmap(self.descriptor, room)
        return memoryview(self._map)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits any more for what is to be written."""
        return bool(self.view(START)[0])

    @cancelled.setter
    def cancelled(self, value: bool) -> None:
        self.view(START)[0] = value

    def close(self) -> None:
        """Gives the descriptor back; what was read without copying stays."""
        self._map = None
        os.close(self.descriptor)

    def write(self, value: Any, *, dump: Dump = plain_dump) -> int:
        """Writes an object.

        Returns:
            how many bytes the area holds now.
        """
        buffers: list[pickle.PickleBuffer] = []
        body = dump(value, buffers.append)
        raw = [buffer.raw() for buffer in buffers]
        sizes = [len(body), *(each.nbytes for each in raw)]
        head = struct.pack(f"<{len(sizes) + 1}q", len(sizes), *sizes)
        places, end = _places(START + len(head), sizes)
        view = self.view(end)
        view[START : START + len(head)] = head
        for place, each in zip(places, (memoryview(body), *raw), strict=True):
            view[place : place + each.nbytes] = each
        for buffer in buffers:
            buffer.release()
        return end

    def read(self, *, copy: bool) -> Any:
        """The object that was written last.

        Args:
            copy: whether its arrays get memory of their own, or are looked at where they are, and cannot be changed.
        """
        (count,) = struct.unpack_from("<q", self.view(START + 8), START)
        start = START + (count + 1) * 8
        sizes = struct.unpack_from(f"<{count}q", self.view(start), START + 8)
        places, end = _places(start, sizes)
        view = self.view(end)
        parts = [view[place : place + size] for place, size in zip(places, sizes, strict=True)]
        return pickle.loads(parts[0], buffers=[bytearray(each) if copy else each.toreadonly() for each in parts[1:]])


def _places(start: int, sizes: Any) -> tuple[list[int], int]:
    places = []
    for size in sizes:
        start = -(-start // ALIGNMENT) * ALIGNMENT
        places.append(start)
        start += size
    return places, start
