"""Fingerprints of data: the number of samples, the files, and hashes of some samples."""

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
"""Most samples to hash: the first, and others evenly spaced up to the last."""

SECONDS = 0.3
"""Time limit for hashing in seconds. A sample in progress is finished."""

HASHED_BYTES = 2**20
"""Bytes hashed of a larger array, as evenly spaced elements."""


def fingerprint(source: Samples) -> dict[str, Any]:
    """Return the fingerprint of samples before any processing, as JSON values.

    Random processing does not run, and the random generators of Python and NumPy keep their states. Data without a
    reproducible first sample has no hashes.

    Args:
        source: the samples by index.

    Returns:
        `size`, the number of samples; `files`, a hash of their paths relative to their common folder, in order, if the
        data has `paths`; `samples`, hashes by index, or None if the samples are not reproducible.
    """
    size = len(source)
    found: dict[str, Any] = {"size": size}
    if isinstance(source, IndexedSamples) and (files := _files(source.given)):
        found["files"] = files
    with _random_states_kept():
        found["samples"] = _samples(source, size)
    return found


def indices(size: int) -> list[int]:
    """Return the indices of the samples to hash."""
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
            # Errors are reported where the sample is used.
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
    # The first and the last path in order share the common folder of all. A moved project keeps its fingerprint.
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
        # Samples in memory are float32, others keep the author's dtype.
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
