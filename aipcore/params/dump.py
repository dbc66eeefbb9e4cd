"""Conversion of a parameter instance to plain values and to the text of a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from aipcore.params.secret import recorded
from aipcore.params.tree import (
    COMPONENT_KEY,
    DEFAULT,
    Component,
    Group,
    Leaf,
    Node,
    build_tree,
    made_of,
    parts,
    tree_of,
)
from aipcore.params.types import to_plain


def to_dict(value: Any, *, reveal: bool = False) -> dict[str, Any]:
    """Return a nested mapping of JSON types that `from_dict` converts back to an equal instance.

    Args:
        value: instance of a parameter class, or a filled tree.
        reveal: if True, the mapping contains secrets; otherwise `***` replaces them.
    """

    def leaf(node: Leaf) -> Any:
        return to_plain(node.value) if reveal else _recorded(node)

    plain: dict[str, Any] = made_of(
        value if isinstance(value, Group) else tree_of(value),
        leaf=leaf,
        group=lambda _, fields: fields,
        choice=lambda name, fields: {COMPONENT_KEY: name, **fields},
    )
    return plain


def changed(value: Any) -> dict[str, Any]:
    """Return the values of an instance that differ from the defaults of its class, as plain values."""
    defaults = to_dict(build_tree(type(value)), reveal=True)
    return {name: plain for name, plain in to_dict(value, reveal=True).items() if plain != defaults[name]}


def _recorded(leaf: Leaf) -> Any:
    return recorded(leaf.spec, to_plain(leaf.value))


def flat(values: Mapping[str, Any], prefix: str = "", *, lists: bool = False) -> dict[str, Any]:
    """Return the values of a nested mapping by dotted path; an empty mapping is a value.

    Args:
        values: nested mapping.
        prefix: start of each path.
        lists: if True, the result also has the options of the components in lists, with the keys of `component_keys`.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        below = isinstance(value, Mapping) and value
        found |= flat(value, f"{path}.", lists=lists) if below else {path: value}
        keys = component_keys(value) if lists else []
        for step, each in zip(keys, value if keys else (), strict=True):
            options = {name: option for name, option in each.items() if name != COMPONENT_KEY}
            found |= flat(options, f"{path}.{step}.", lists=True)
    return found


def component_keys(recorded: Any) -> list[str]:
    """Return the keys of recorded components: their names, or their numbers from 1 if a name is repeated.

    The result is empty for anything but a list of components.
    """
    if not isinstance(recorded, list) or not all(isinstance(each, dict) and COMPONENT_KEY in each for each in recorded):
        return []
    names = [str(each[COMPONENT_KEY]) for each in recorded]
    return names if len(set(names)) == len(names) else [str(number) for number in range(1, len(names) + 1)]


def recorded_text(value: Any) -> str:
    """Return a recorded value as text: components in a list by their names."""
    return ", ".join(str(each[COMPONENT_KEY]) for each in value) if component_keys(value) else str(value)


def to_json(plain: Mapping[str, Any]) -> str:
    """Return parameters as the text of a JSON file."""
    return json.dumps(plain, indent=2) + "\n"


def to_yaml(tree: Group, *, origins: bool = False) -> str:
    """Return a filled tree as the text of a YAML file, in the order of declaration.

    Args:
        tree: the tree from `resolve(...).tree`.
        origins: if True, add the origin of each value that is not a default as a comment.
    """
    lines = [line for node in tree.children.values() for line in _yaml(node, "")]
    if not origins:
        return "".join(f"{text}\n" for text, _ in lines)
    width = max((len(text) for text, origin in lines if origin != DEFAULT), default=0)
    return "".join(f"{text:<{width}}  # {origin}\n" if origin != DEFAULT else f"{text}\n" for text, origin in lines)


def _yaml(node: Node, pad: str) -> Iterator[tuple[str, str]]:
    """Yield the YAML lines of a node, each with the origin of its value."""
    inner = f"{pad}  "
    match node:
        case Leaf():
            yield f"{pad}{node.path[-1]}: {_scalar(_recorded(node))}", node.origin
        case Component():
            empty = "" if node.chosen else " []" if node.several else " null"
            yield f"{pad}{node.path[-1]}:{empty}", DEFAULT if node.chosen else node.origin
            inner = pad
        case Group(component=Component() as owner):
            yield f"{pad}{'- ' if owner.several else '  '}{COMPONENT_KEY}: {_scalar(node.choice)}", owner.origin
        case Group():
            yield f"{pad}{node.path[-1]}:{'' if node.children else ' {}'}", DEFAULT
    for each in parts(node):
        yield from _yaml(each, inner)


def _scalar(value: Any) -> str:
    # JSON notation is valid YAML, and its type is unambiguous.
    if isinstance(value, str) and value.replace("_", "").isalnum() and not value[0].isdigit() and not _reserved(value):
        return value
    return re.sub(r"[^\x20-\x7e]", _escaped, json.dumps(value, ensure_ascii=False))


def _escaped(match: re.Match[str]) -> str:
    # JSON writes a character beyond 16 bits as a surrogate pair, which YAML would read as two characters.
    code = ord(match[0])
    return f"\\U{code:08x}" if code > 0xFFFF else f"\\u{code:04x}"


def _reserved(text: str) -> bool:
    return text.casefold() in ("true", "false", "null", "none", "yes", "no", "on", "off", "y", "n", "inf", "nan")
