"""Formats of checkpoints: which one is written, and how the manifests of older ones are brought up to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from aipcore.files import PROGRESS_BYTES, read_json

FORMAT = 2
"""The format that is written. 2 added to 1: the manifest's own checksum, shapes, and what the run is (`about`)."""

STATE = {"epoch", "step", "seed", "history", "monitor", "compilation", "callbacks"}
"""What progress.json of format 1 held of the state itself; the rest described the run."""


class NewerFormatError(Exception):
    """The end of a sentence that begins "The checkpoint PATH has"."""


def current_manifest(manifest: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A manifest of any format up to the current one, in the current one; no file is changed.

    Raises:
        NewerFormatError: it is of a format that this aip does not know.
    """
    number = manifest["format"]
    if not isinstance(number, int) or number < 1:
        raise ValueError(f"{number!r} is no format")
    if number > FORMAT:
        raise NewerFormatError(f"format {number}, this aip reads up to {FORMAT}: upgrade aipcore.")
    while number < FORMAT:
        manifest = MIGRATIONS[number](manifest, folder)
        number += 1
    return manifest


def _from_1(manifest: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Takes the shapes from the arrays' own headers, and what the run is from progress.json."""
    import zipfile

    import numpy as np

    variables = {}
    try:
        with zipfile.ZipFile(folder / "variables.npz") as archive:
            for member, (name, dtype) in zip(archive.namelist(), manifest["dtypes"].items(), strict=True):
                with archive.open(member) as file:
                    np.lib.format.read_magic(file)
                    shape, _, _ = np.lib.format.read_array_header_1_0(file)
                variables[name] = {"dtype": dtype, "shape": list(shape)}
    except zipfile.BadZipFile as error:
        raise ValueError(f"variables.npz: {error}") from error
    progress = read_json(folder / "progress.json", limit=PROGRESS_BYTES, follow=False)
    about = {key: value for key, value in progress.items() if key not in STATE}
    return {"format": 2, "about": about, "variables": variables, "files": manifest["files"]}


MIGRATIONS: dict[int, Callable[[dict[str, Any], Path], dict[str, Any]]] = {1: _from_1}
"""From each older format to the step that brings its manifest to the next."""
