"""The formats of result files, and checks of their paths before any computation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from aipcore.errors import UsageError
from aipcore.params import one_of

NEEDS_PYARROW = "Parquet files need the package pyarrow. Install aipcore[parquet], or give a file that ends in .npz."

STORED = (".npz", ".parquet")
"""Suffixes of files with targets and outputs, for `aip evaluate`."""


def check_output(path: Path, option: str, suffixes: Sequence[str]) -> None:
    """Check that a file can be written.

    Args:
        path: path of the file.
        option: option that names the file.
        suffixes: allowed suffixes.

    Raises:
        UsageError: the suffix is not allowed, the folder is missing or read-only, or pyarrow is missing.
    """
    if path.suffix not in suffixes:
        raise UsageError(f"{option} {path} is not allowed. The file must end in {one_of(suffixes)}.")
    check_place(path, option)
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise UsageError(NEEDS_PYARROW)


def check_place(path: Path, option: str) -> None:
    """Check that a file can be written at a path.

    Raises:
        UsageError: the path is a folder, or its folder is missing or read-only.
    """
    if path.is_dir():
        raise UsageError(f"{option} {path} is a folder. Give a file.")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(
            f"{option} {path} cannot be written: {path.parent} is not a writable folder. Give another path."
        )


def check_stored(path: Path, suffixes: Sequence[str]) -> None:
    """Check that a file of stored outputs exists.

    Raises:
        UsageError: the file or pyarrow is missing, or the suffix is not allowed.
    """
    if not path.is_file():
        problem = "is not a file" if path.exists() else "does not exist"
        raise UsageError(f"{path} {problem}. Give a file written by aip lav --dump or aip predict --targets --output.")
    if path.suffix not in suffixes:
        raise UsageError(f"{path} does not end in {one_of(suffixes)}. Only such files contain targets and outputs.")
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise UsageError(NEEDS_PYARROW)
