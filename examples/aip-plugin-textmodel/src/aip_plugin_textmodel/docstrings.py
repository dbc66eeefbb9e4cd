"""The docstrings of Python's standard library and their topics: real text, available in every Python installation."""

from __future__ import annotations

import ast
import sysconfig
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

TOPICS = {
    "concurrency": "asyncio concurrent multiprocessing queue sched subprocess threading",
    "files": "_pyio fileinput filecmp glob gzip lzma pathlib shutil tarfile tempfile zipfile",
    "interface": "curses tkinter turtle",
    "mail": "email imaplib mailbox poplib smtplib",
    "markup": "configparser csv html json plistlib xml",
    "numbers": "_pydecimal _pydatetime calendar datetime fractions numbers random statistics",
    "testing": "bdb doctest inspect pdb profile pstats pydoc trace traceback unittest",
    "web": "ftplib http ipaddress socket socketserver ssl urllib wsgiref xmlrpc",
}
"""Topics, and the modules of each."""

LEFT_OUT = {"__pycache__", "dist-packages", "distutils", "idlelib", "lib2to3", "site-packages", "test", "tests"}
"""Folders that are not part of the library, or not in every version of Python."""


@cache
def docstrings() -> tuple[tuple[str, str], ...]:
    """Return (top-level module, docstring) for each unique docstring of at least 30 characters. Imports no module."""
    root = Path(sysconfig.get_path("stdlib"))
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if not LEFT_OUT & set(parts):
            for text in _docstrings_of(ast.parse(path.read_bytes())):
                found.setdefault(text, parts[0].removesuffix(".py"))
    return tuple((module, text) for text, module in found.items())


def _docstrings_of(node: Any) -> Iterator[str]:
    if len(text := ast.get_docstring(node) or "") >= 30:
        yield text
    for part in node.body:
        if isinstance(part, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings_of(part)


def topic_of(module: str) -> int | None:
    """Return the index of a module's topic, or None."""
    for number, modules in enumerate(TOPICS.values()):
        if module in modules.split():
            return number
    return None


def is_held_out(text: str) -> bool:
    """Return True for the fifth of the texts that no model is trained on, including the packaged one."""
    return number_of(text) % 5 == 0


def number_of(text: str) -> int:
    """Return a number that depends only on the text, so that a text is held out in every version of Python."""
    return zlib.crc32(text.encode())
