"""Writes docs/hooks.md from the specified hooks and their records; `--check` only says whether it is up to date."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import attrs
from generated_page import prose, table, write_or_check

from aipcore.hooks import specs
from aipcore.hooks.discovery import HOOKS
from aipcore.hooks.manager import get_plugin_manager
from aipcore.hooks.records import API_VERSION, PluginRecord

HEAD = f"""# Hooks

A plugin is a module that an entry point of the group `aip` names. It implements any of these hooks, each marked with
`@hookimpl`; each returns records, which say what there is and name the rest without importing it. This page is made by
`make docs` from `aipcore/hooks/specs.py` and `aipcore/hooks/records.py`. [Your first plugin](howto/first-plugin.md)
leads from nothing to a plugin that passes all checks; [Writing a plugin](plugins.md) explains the whole.

The version of this API is {API_VERSION}. A module may say for which one it is made, `AIP_API = {API_VERSION}`; an aip
of another version then lists it as broken instead of failing later.

A reference `"package.module:attribute"` is imported when the plugin is used. The module that the entry point names and
the one that holds the parameters must import neither TensorFlow nor Keras, NumPy or grain.
"""


def reference() -> str:
    """The text of the page."""
    plugins = get_plugin_manager()
    parts = [HEAD]
    for name, record in HOOKS.items():
        text = inspect.cleandoc(getattr(specs, name).__doc__)
        summary, _, example = text.partition("Example::")
        parts.append(f"## `{name}`\n\n{summary.strip()}\n")
        parts.append(f"It returns any number of `{record.__name__}`. {prose(_about(record))}")
        parts.append(table("field | type | default | ", _fields(record)))
        code = inspect.cleandoc(chr(10) + example).strip().replace("\n\n@hookimpl", "\n\n\n@hookimpl")
        parts.append(f"```python\n{code}\n```\n")
        names = [entry.record.name for entry in plugins.of_kind(record.kind) if entry.plugin.is_own]
        if names:
            parts.append(f"Those that come with aip: {', '.join(f'`{each}`' for each in names)}.\n")
    return "\n".join(parts)


def _about(record: type[PluginRecord]) -> str:
    """What the docstring of a record says before its attributes, after the first sentence, which names the kind."""
    text = inspect.cleandoc(record.__doc__ or "").partition("\n\nAttributes:")[0]
    return text.partition(". ")[2] or text


def _fields(record: type[PluginRecord]) -> list[tuple[str, ...]]:
    said: dict[str, str] = {"params": "The class of the parameters: itself, or a reference to it."}
    for cls in reversed(record.__mro__):
        attributes = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2]
        for found in re.finditer(r"^ *(\w+): (.*(?:\n {6,}.*)*)", attributes, re.MULTILINE):
            said[found[1]] = _sentence(found[2])
    rows = []
    for field in attrs.fields(record):
        default = "*required*" if field.default is attrs.NOTHING else f"`{field.default!r}`"
        rows.append((f"`{field.name}`", f"`{field.type}`", default, said[field.name]))
    return rows


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text[0].upper() + text[1:]


if __name__ == "__main__":
    sys.exit(write_or_check(Path(__file__).parent / "hooks.md", reference()))
