"""Safe reading of arrays from untrusted files: sizes are checked before any data is read."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from aipcore.errors import UsageError
from aipcore.files import open_regular, read_limit

HEADER_BYTES = 2**14
"""Maximum size of the NumPy header of one array, in bytes."""


def too_large(path: Path, size: int) -> UsageError:
    """Return the error for a file whose arrays need more memory than `read_limit`."""
    return UsageError(
        f"{path} unpacks to {size / 2**30:,.1f} GiB, more than the limit of {read_limit() / 2**30:g} GiB. If the file "
        "is correct, set AIP_READ_GIB to a larger number."
    )


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of an `.npz` file by name, without unpickling.

    Raises:
        UsageError: the arrays need more memory than `read_limit` and than the size of the file.
        OSError: the file is missing or not a regular file.
        ValueError: an array does not match its header.
        zipfile.BadZipFile: the file is not a zip archive.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        size = sum(member.file_size for member in members)
        if size > max(read_limit(), path.stat().st_size):
            raise too_large(path, size)
        for member in members:
            with archive.open(member) as stream:
                arrays[member.filename.removesuffix(".npy")] = _read_array(stream, member)  # type: ignore[arg-type]
    return arrays


def _read_array(stream: BinaryIO, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"{member.filename} has version {version} of NumPy's format, which is not supported")
    shape, fortran, dtype = readers[version](stream)
    if dtype.hasobject:
        raise ValueError(f"{member.filename} contains Python objects")
    size = dtype.itemsize
    for length in shape:
        size *= length
    if not size < member.file_size <= size + HEADER_BYTES or min(shape, default=1) < 0:
        raise ValueError(f"{member.filename} has {member.file_size:,} bytes, but its header declares {size:,}")
    content = bytearray(stream.read(size))
    if len(content) != size:
        raise ValueError(f"{member.filename} is truncated")
    array = np.frombuffer(content, dtype) if size else np.empty(0, dtype)
    return array.reshape(shape, order="F" if fortran else "C")
