"""The fingerprint of a run's data and of its scenario's source, recorded at the start and compared on resume."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from aipcore.files import as_mapping, read_bytes

SOURCE_BYTES = 2**20
"""Maximum bytes of a source file that is hashed."""

SOURCE_FILES = 100
"""Maximum number of source files that are hashed."""

CLASS = "class"
"""The key of the scenario's class among the hashes."""

LIBRARY_FOLDERS = ("site-packages", "dist-packages")

PARTS = {"train": "training data", "val": "validation data"}
"""The parts of the data in words; all others are LAV lists."""


def source_fingerprint(cls: type) -> dict[str, str]:
    """Return hashes of the source of a scenario by file name: its module, those of its bases, and their neighbours.

    Neighbours are imported modules in the same folder, such as `model.py` beside `scenario.py`. Libraries and aip
    itself are excluded; the run records their versions. A class of a notebook has no source file.
    """
    own = [
        file
        for base in cls.__mro__
        if base.__module__.partition(".")[0] not in ("aipcore", "builtins", "abc", "typing", "keras")
        and (file := _file(sys.modules.get(base.__module__)))
    ]
    # There are thousands of modules, so only strings are compared.
    folders = {os.path.split(file)[0] for file in own if Path(file).parent.name not in LIBRARY_FOLDERS}
    files = [_file(module) for module in list(sys.modules.values())]
    beside = sorted(file for file in files if os.path.split(file)[0] in folders)
    hashes: dict[str, str] = {}
    for path in map(Path, list(dict.fromkeys([*own, *beside]))[:SOURCE_FILES]):
        try:
            content = read_bytes(path, limit=SOURCE_BYTES)
        except OSError:
            continue
        hashes[f"{path.parent.name}/{path.name}"] = blake2b(content, digest_size=8).hexdigest()
    hashes[CLASS] = cls.__qualname__
    return hashes


def _file(module: Any) -> str:
    """Return the path of a module's source, or an empty string without one."""
    file = getattr(module, "__dict__", {}).get("__file__")
    return file if isinstance(file, str) and file.endswith(".py") else ""


def differences(before: Any, now: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each part of a fingerprint that differs.

    Args:
        before: the fingerprint recorded by a run, untrusted; missing values are not compared.
        now: `{"source": ..., "data": {"train": ..., "val": ..., NAME: ...}}`.
    """
    source, data = as_mapping(as_mapping(before).get("source")), as_mapping(as_mapping(before).get("data"))
    found = [
        f"The scenario is the class {digest}. The run was started with {source[name]}."
        if name == CLASS
        else f"The scenario's source changed: {name} is different."
        for name, digest in now["source"].items()
        if name in source and source[name] != digest
    ]
    if data and ("val" in data) != ("val" in now["data"]):
        found.append(f"The validation data was {'removed' if 'val' in data else 'added'}.")
    for name, part in now["data"].items():
        if change := _change(as_mapping(data.get(name)), part):
            words = PARTS.get(name, f"data of the LAV list {name.removeprefix('lav ')}")
            found.append(f"The {words} changed: {change}.")
    return found


def _change(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    size = before.get("size")
    if isinstance(size, int) and size != now["size"]:
        return f"{now['size']:,} samples instead of {size:,}"
    if before.get("files") is not None and now.get("files") is not None and before["files"] != now["files"]:
        return "the files or their order are different"
    hashes, samples = as_mapping(before.get("samples")), now["samples"] or {}
    differ = [index for index, digest in samples.items() if index in hashes and hashes[index] != digest]
    if not differ:
        return ""
    compared = len(hashes.keys() & samples.keys())
    more = f", and {len(differ) - 1} more of the {compared} compared" if len(differ) > 1 else ""
    return f"sample {differ[0]} is different{more}"
