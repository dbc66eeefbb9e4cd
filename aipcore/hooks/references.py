"""References `"module:attribute"`: importing what they name, and finding its source without importing it."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from functools import reduce
from pathlib import Path
from typing import Any

import attrs

from aipcore.params.names import normalize

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


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
        docstring: of the definition; empty if there is none.
    """

    file: Path
    line: int | None
    docstring: str


def find_source(reference: str, name: str) -> Source | None:
    """The source of what a reference names, read and not run, since running it may load all of TensorFlow.

    Where the reference names a function and its module has a class called `name`, that class is what is looked for:
    the function only makes it.

    Returns:
        None if the module is not there or is not written in Python.
    """
    module, _, attribute = reference.partition(":")
    try:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            return None
        tree = ast.parse(Path(spec.origin).read_bytes())
    except Exception:  # to find a module its packages are imported, and those may fail in any way
        return None
    classes = {normalize(node.name): node for node in tree.body if isinstance(node, ast.ClassDef)}
    found: Definition | None = classes.get(normalize(name))
    target = _definition(tree, attribute)
    if isinstance(target, ast.ClassDef) or found is None:
        found = target
    if found is None:
        return Source(Path(spec.origin), None, ast.get_docstring(tree) or "")
    return Source(Path(spec.origin), found.lineno, ast.get_docstring(found) or "")


def _definition(tree: ast.Module, attribute: str) -> Definition | None:
    body, found = tree.body, None
    for name in attribute.split("."):
        found = next((node for node in body if isinstance(node, Definition) and node.name == name), None)
        if found is None:
            return None
        body = found.body
    return found
