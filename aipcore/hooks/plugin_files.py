"""Plugin files: plugins in a `.py` file that no package installs, and the project file that names them."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterable
from hashlib import blake2b
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from aipcore.errors import UsageError, author_line, sentence
from aipcore.files import MEBIBYTE, expanded, read_bytes, shown_path
from aipcore.hooks.discovery import Given, Plugin, PluginFile
from aipcore.hooks.loading import BrokenPluginError
from aipcore.params.names import nearest, one_of

MODULE: Final = "aip_plugin_file_"
"""Prefix of the names of the modules of plugin files."""

PROJECT_FILE: Final = "pyproject.toml"

RECORDS: Final = ("run.json", "aip.json", "progress.json", "sweep.json")
"""Files that mark the folder of a run, a model, a checkpoint or a sweep."""

KEYS: Final = ("plugins",)
"""The keys of the table `tool.aip`."""


def named_file(text: str) -> PluginFile:
    """Return the plugin file of `-p FILE`.

    Raises:
        UsageError: there is no such file.
    """
    path = Path(os.path.abspath(expanded(text)))  # noqa: PTH100 - resolve() would replace links, which scripts may be
    if not path.is_file():
        raise UsageError(f"There is no plugin file {text}. Give the path of a .py file, or -p no:NAME.")
    return PluginFile(path=path)


def plugin_of_file(file: PluginFile) -> Plugin:
    """Return a plugin file as a plugin that is not loaded yet. Its version is its fingerprint."""
    return make_plugin(file.path, module_name(file.path), fingerprint_of(file.path), file.given, file.reason)


def make_plugin(path: Path, module: str, fingerprint: str, given: Given, reason: str = "") -> Plugin:
    """Return the plugin of a file, with its module and its fingerprint."""
    return Plugin(
        name=path.stem,
        module=module,
        distribution=str(path),
        version=fingerprint,
        file=path,
        given=given,
        reason=reason,
    )


def fingerprint_of(path: Path) -> str:
    """Return a hash of a file; empty if it cannot be read."""
    try:
        return blake2b(read_bytes(path, limit=MEBIBYTE), digest_size=8).hexdigest()
    except OSError:
        return ""


def module_name(path: Path) -> str:
    """Return the name of the module of a plugin file. Files of one name in several folders have several modules."""
    place = blake2b(os.fsencode(path), digest_size=4).hexdigest()
    return f"{MODULE}{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}_{place}"


def import_file(path: Path) -> ModuleType:
    """Import a plugin file. Modules beside it can be imported too, after installed ones.

    Raises:
        BrokenPluginError: the file is missing or fails.
    """
    spec = spec_from_file_location(module_name(path), path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise BrokenPluginError("is missing")
    module = module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        line = author_line(error)
        where = "" if line is None else f" ({line.removesuffix(', in <module>')})"
        raise BrokenPluginError(f"cannot be imported: {sentence(error)}{where}") from error
    return module


def project_files(folder: Path, *, untrusted: bool = False) -> list[PluginFile]:
    """Return the plugin files that the nearest `pyproject.toml` with a table `tool.aip` names.

    Args:
        folder: where the search begins; it continues upwards.
        untrusted: True for a command that reads the folder of a run or a model without `--trust`. The files are then
            not loaded, since the project may have come with that folder.

    Raises:
        UsageError: the table is not valid.
    """
    for here in (folder, *folder.parents):
        path = here / PROJECT_FILE
        table = _table(path)
        if table is None:
            continue
        reason = _distrust(path) or (
            "the command reads a folder of data: add --trust, or name the file with -p" if untrusted else ""
        )
        files = dict.fromkeys(Path(os.path.abspath(here / name)) for name in _names(table, path))  # noqa: PTH100
        return [PluginFile(path=each, given="project", reason=reason) for each in files]
    return []


def _table(path: Path) -> dict[str, Any] | None:
    try:
        content = read_bytes(path, limit=MEBIBYTE)
    except OSError:
        return None
    if b"aip" not in content:
        return None
    try:
        tools = tomllib.loads(content.decode("utf-8")).get("tool")
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{shown_path(path)} is not valid TOML ({sentence(error)}). Fix it.") from error
    table = tools.get("aip") if isinstance(tools, dict) else None
    if table is not None and not isinstance(table, dict):
        raise UsageError(f"{shown_path(path)}: tool.aip is not a table. Write [tool.aip].")
    return table


def _names(table: dict[str, Any], path: Path) -> Iterable[str]:
    for key in table:
        if key not in KEYS:
            near = nearest(key, KEYS)
            hint = f"Did you mean {one_of(near)}?" if near else f"The only key is {one_of(KEYS)}."
            raise UsageError(f"{shown_path(path)}: [tool.aip] has the unknown key {key!r}. {hint}")
    names = table.get("plugins", [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name.endswith(".py") for name in names):
        raise UsageError(
            f'{shown_path(path)}: plugins of [tool.aip] is not a list of .py files. Write plugins = ["FILE.py"].'
        )
    return names


def _distrust(path: Path) -> str:
    """Return the reason why the plugin files of a project are not loaded: it may be a stranger's."""
    owner = path.stat().st_uid
    if hasattr(os, "getuid") and owner not in (os.getuid(), 0):
        return f"{shown_path(path)} belongs to another user: name the file with -p"
    for here in (path.parent, *path.parent.parents):
        if found := next((name for name in RECORDS if (here / name).is_file()), None):
            return f"{shown_path(path)} is in a folder of data, which has {found}: name the file with -p"
    return ""
