"""Whose code an unforeseen exception comes from."""

from __future__ import annotations

import sysconfig
import traceback
from importlib.util import find_spec
from pathlib import Path


def users_line(error: BaseException) -> str | None:
    """The innermost line of the user's own that aip called, as `FILE, line N, in FUNCTION`; None if there is none.

    The user's own is what lies outside of Python itself, installed packages and aip: a scenario file, say, or a package
    that is being written.
    """
    ours = [folder for name in ("aipcore", "aip_plugins") for folder in _folders(name)]
    python = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")]
    found = None
    called = False
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename).resolve()
        # Environments can stand on top of one another: each has such a folder.
        is_installed = bool({"site-packages", "dist-packages"} & set(path.parts))
        if any(path.is_relative_to(folder) for folder in ours):
            called = True
        elif called and path.is_file() and not is_installed and not any(path.is_relative_to(each) for each in python):
            found = f"{frame.filename}, line {frame.lineno}, in {frame.name}"
    return found


def _folders(package: str) -> list[Path]:
    spec = find_spec(package)
    return [Path(path).resolve() for path in (spec.submodule_search_locations or ())] if spec is not None else []
