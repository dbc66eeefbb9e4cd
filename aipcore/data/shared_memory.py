"""Arrays in shared memory, which this process and its workers use together."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from contextlib import suppress
from typing import Any

import numpy as np

LEAST_BYTES = 2**20
"""Smaller arrays are copied to the workers."""

PART_BYTES = 2**24
"""Bytes that are in memory twice while an array is moved."""


def make_descriptor() -> int:
    """Return the descriptor of new shared memory. It has no name, so the system frees it when the last process ends."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("aip-workers", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class SharedMemory(mmap.mmap):
    """Shared memory that closes its descriptor when it is freed. Create it with `make`."""

    descriptor: int

    @classmethod
    def make(cls, nbytes: int) -> SharedMemory:
        """Return new shared memory of some size."""
        descriptor = make_descriptor()
        os.ftruncate(descriptor, nbytes)
        made = cls(descriptor, nbytes)
        made.descriptor = descriptor
        weakref.finalize(made, os.close, descriptor)
        return made


def descriptor_of(array: Any) -> int | None:
    """Return the descriptor of an array that `share` has moved, else None."""
    memory = getattr(array, "base", None)
    return memory.descriptor if isinstance(memory, SharedMemory) else None


def share(columns: dict[str, Any], name: str) -> None:
    """Move a large array of numbers to shared memory, in which it is read-only. Other columns stay as they are.

    The old memory is freed in parts, so that the array is never in memory twice, unless it is used elsewhere.
    """
    array = columns[name]
    if not isinstance(array, np.ndarray) or array.dtype.hasobject or array.nbytes < LEAST_BYTES:
        return
    if descriptor_of(array) is not None or not array.flags.c_contiguous:
        return
    memory = SharedMemory.make(array.nbytes)
    shared = np.ndarray(array.shape, array.dtype, buffer=memory)
    # NumPy frees memory only of an array without other references.
    columns[name] = None
    while isinstance(array.base, np.ndarray) and array.base.nbytes == array.nbytes and array.base.flags.c_contiguous:
        array = array.base
    copy = np.ndarray(array.shape, array.dtype, buffer=memory)
    rows = max(1, PART_BYTES * len(array) // array.nbytes)
    for end in range(len(array), 0, -rows):
        start = max(0, end - rows)
        copy[start:end] = array[start:end]
        with suppress(ValueError):
            array.resize((start, *array.shape[1:]))
    shared.flags.writeable = False
    columns[name] = shared
