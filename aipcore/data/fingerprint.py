"""A fingerprint of data: how many samples there are, which files they are, and hashes of some of them."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from aipcore.data.adapters.indexed import IndexedSamples
from aipcore.data.processing import SampleError
from aipcore.data.sample import Sample, Samples

SAMPLES = 16
"""Most samples that are hashed: the first, and others evenly spaced up to the last."""

SECONDS = 0.3
"""How long samples are hashed at most, but for the last one that is begun."""

HASHED_BYTES = 2**20
"""Of a larger array, the bytes that are hashed: evenly spaced numbers."""


def fingerprint(source: Samples) -> dict[str, Any]:
    """Return the fingerprint of samples before any processing, as JSON values.

    Random processing does not run, and the random generators of Python and NumPy stay as they are. Data that gives
    another first sample when it is asked again has no hashes.

    Args:
        source: the samples by index.

    Returns:
        `size`, the number of samples; `files`, a hash of their paths relative to their common folder, in order, if the
        data has `paths`; `samples`, hashes by index, or None if there are none that stay the same.
    """
    size = len(source)
    found: dict[str, Any] = {"size": size}
    if isinstance(source, IndexedSamples) and (files := _files(source.given)):
        found["files"] = files
    with _random_states_kept():
        found["samples"] = _samples(source, size)
    return found


def indices(size: int) -> list[int]:
    """Return the indices of the samples that are hashed."""
    return sorted({round(position) for position in np.linspace(0, size - 1, min(size, SAMPLES)).tolist()})


def _samples(source: Samples, size: int) -> dict[str, str] | None:
    hashes: dict[str, str] = {}
    end = time.monotonic() + SECONDS
    for index in indices(size):
        try:
            hashes[str(index)] = _hash(source[index])
            if index == 0 and isinstance(source, IndexedSamples) and _hash(source[0]) != hashes["0"]:
                return None
        except SampleError:
            # Left out or reported where it is used.
            continue
        if time.monotonic() > end:
            break
    return hashes


def _files(given: Any) -> str | None:
    paths = getattr(given, "paths", None)
    if not isinstance(paths, list | tuple) or not paths or not all(isinstance(path, os.PathLike) for path in paths):
        return None
    here = f"{Path.cwd()}{os.sep}"
    names = [name if name[:1] == os.sep else here + name for name in map(os.fspath, paths)]
    # What the first and the last in order have in common, all have. A project that was moved is the same.
    common = len(os.path.commonpath([Path(min(names)).parent, Path(max(names)).parent]))
    return _digest(["\n".join(name[common:] for name in names).encode(errors="surrogateescape")])


def _hash(sample: Sample) -> str:
    parts: Iterator[bytes] = (part for side in (sample.inputs, sample.targets, sample.weight) for part in _parts(side))
    return _digest(parts)


def _parts(side: Any) -> Iterator[bytes]:
    if isinstance(side, Mapping):
        for name in sorted(side, key=str):
            yield str(name).encode()
            yield from _parts(side[name])
        return
    if side is None:
        yield b"none"
        return
    array = np.asarray(side)
    if array.dtype == np.float64:
        # In memory they are kept as float32, elsewhere they are as the author gave them.
        array = array.astype(np.float32)
    yield f"{array.dtype} {array.shape}".encode()
    if array.dtype == object:
        yield repr(array.tolist()).encode()
        return
    flat = array.reshape(-1)
    yield np.ascontiguousarray(flat[:: max(1, -(-flat.nbytes // HASHED_BYTES))]).tobytes()


def _digest(parts: Iterable[bytes]) -> str:
    state = blake2b(digest_size=8)
    for part in parts:
        state.update(part)
        state.update(b"\0")
    return state.hexdigest()


@contextmanager
def _random_states_kept() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
