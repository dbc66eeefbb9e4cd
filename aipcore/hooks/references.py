"""References `"module:attribute"`: importing what they name, and finding its source without importing it."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from functools import reduce
from pathlib import Path
from typing import Any

import attrs


def import_reference(reference: str) -> Any:
    """What a reference names.

    Raises:
        Exception: whatever importing raises; AttributeError if the module has no such attribute.
    """
    module, _, attribute = reference.partition(":")
    return reduce(getattr, attribute.split("."), importlib.import_module(module))


@attrs.frozen
class Source:
    """Where something is written.

    Attributes:
        file: the module's file.
        line: where its definition begins; None if the module only passes it on.
        docstring: its own, or the module's if it has none.
    """

    file: Path
    line: int | None
    docstring: str


def find_source(reference: str) -> Source | None:
    """The source of what a reference names, read and not run, since running it may load all of TensorFlow.

    None if the module is not there or was not written in Python.
    """
    module, _, attribute = reference.partition(":")
    try:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            return None
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    except Exception:  # finding a module runs the packages around it, and those may fail in any way
        return None
    docstring = ast.get_docstring(tree) or ""
    body: list[ast.stmt] = tree.body
    line = None
    for name in attribute.split("."):
        found = [
            node
            for node in body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name
        ]
        if not found:
            break
        body, line = found[-1].body, found[-1].lineno
        docstring = ast.get_docstring(found[-1]) or docstring
    return Source(Path(spec.origin), line, docstring)
