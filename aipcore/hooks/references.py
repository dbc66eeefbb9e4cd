"""References `"module:attribute"`: import of their target, and lookup of its source without import."""

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
    """Import and return the target of a reference.

    Raises:
        Exception: any exception of the import; AttributeError if the module lacks the attribute.
    """
    module, _, attribute = reference.partition(":")
    return reduce(getattr, attribute.split("."), importlib.import_module(module))


@attrs.frozen
class Source:
    """A location in the source code.

    Attributes:
        file: file of the module.
        line: first line of the definition; None if the module only re-exports it.
        docstring: docstring of the definition; empty if it has none.
    """

    file: Path
    line: int | None
    docstring: str


def find_source(reference: str, name: str) -> Source | None:
    """Find the source of a reference's target by parsing, since executing it may load all of TensorFlow.

    If the reference names a function and its module has a class called `name`, the class is used: the function only
    creates it.

    Returns:
        the location; None if the module does not exist or is not written in Python.
    """
    module, _, attribute = reference.partition(":")
    try:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            return None
        tree = ast.parse(Path(spec.origin).read_bytes())
    except Exception:  # The lookup imports the parent packages, which may fail in any way.
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
