"""From an instance back to plain values, and to the text of a file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import attrs

from aipcore.params.declare import Choice, spec_of
from aipcore.params.secret import recorded
from aipcore.params.tree import COMPONENT_KEY, DEFAULT, Component, Components, Group, Leaf, Node
from aipcore.params.types import to_plain


def to_dict(value: Any, *, reveal: bool = False) -> dict[str, Any]:
    """The nested mapping that `from_dict` turns back into an equal instance; only JSON's types.

    Args:
        value: an instance of a parameter class.
        reveal: whether secrets are in it; without, `***` stands in their place.
    """

    def chosen(choice: Choice[Any]) -> dict[str, Any]:
        return {COMPONENT_KEY: choice.name, **to_dict(choice.params, reveal=reveal)}

    plain: dict[str, Any] = {}
    for attribute in attrs.fields(type(value)):
        spec, part = spec_of(attribute), getattr(value, attribute.name)
        if spec.kind == "value":
            plain[attribute.name] = to_plain(part) if reveal else recorded(spec, to_plain(part))
        elif spec.kind == "group":
            plain[attribute.name] = to_dict(part, reveal=reveal)
        elif spec.kind == "component":
            plain[attribute.name] = None if part is None else chosen(part)
        else:
            plain[attribute.name] = [chosen(each) for each in part]
    return plain


def to_json(plain: Mapping[str, Any]) -> str:
    """The text of a JSON file."""
    return json.dumps(plain, indent=2) + "\n"


def to_yaml(tree: Group, *, origins: bool = False) -> str:
    """The text of a YAML file for a filled tree, in the order of declaration.

    Args:
        tree: from `resolve(...).tree`.
        origins: whether to add where each value came from, as a comment; defaults have none.
    """
    lines: list[tuple[str, str]] = []
    _yaml(tree, 0, lines)
    if not origins:
        return "".join(f"{text}\n" for text, _ in lines)
    width = max((len(text) for text, origin in lines if origin != DEFAULT), default=0)
    return "".join(f"{text:<{width}}  # {origin}\n" if origin != DEFAULT else f"{text}\n" for text, origin in lines)


def _yaml(group: Group, depth: int, lines: list[tuple[str, str]]) -> None:
    pad = "  " * depth
    for name, node in group.children.items():
        _yaml_node(name, node, depth, pad, lines)


def _yaml_node(name: str, node: Node, depth: int, pad: str, lines: list[tuple[str, str]]) -> None:
    match node:
        case Leaf():
            lines.append((f"{pad}{name}: {_scalar(recorded(node.spec, to_plain(node.value)))}", node.origin))
        case Group():
            if node.children:
                lines.append((f"{pad}{name}:", DEFAULT))
                _yaml(node, depth + 1, lines)
            else:
                lines.append((f"{pad}{name}: {{}}", DEFAULT))
        case Component():
            if node.group is None:
                lines.append((f"{pad}{name}: null", node.origin))
            else:
                lines.append((f"{pad}{name}:", DEFAULT))
                lines.append((f"{pad}  {COMPONENT_KEY}: {_scalar(node.choice)}", node.origin))
                _yaml(node.group, depth + 1, lines)
        case Components():
            if not node.groups:
                lines.append((f"{pad}{name}: []", node.origin))
            else:
                lines.append((f"{pad}{name}:", DEFAULT))
            for known, group in node.groups.items():
                lines.append((f"{pad}- {COMPONENT_KEY}: {_scalar(known)}", node.origin))
                _yaml(group, depth + 1, lines)


def _scalar(value: Any) -> str:
    # JSON's notation of a value is YAML too, and leaves no doubt about its type.
    if isinstance(value, str) and value.replace("_", "").isalnum() and not value[0].isdigit() and not _reserved(value):
        return value
    return re.sub(r"[^\x20-\x7e]", _escaped, json.dumps(value, ensure_ascii=False))


def _escaped(match: re.Match[str]) -> str:
    # JSON writes a character beyond 16 bits as two, which YAML would read as two.
    code = ord(match[0])
    return f"\\U{code:08x}" if code > 0xFFFF else f"\\u{code:04x}"


def _reserved(text: str) -> bool:
    return text.casefold() in ("true", "false", "null", "none", "yes", "no", "on", "off", "y", "n", "inf", "nan")
