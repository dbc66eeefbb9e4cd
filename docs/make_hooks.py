"""Write docs/hooks.md from the hook specifications and their records. `--check` only compares."""

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

A plugin is a module named by an entry point of the group `aip`. It implements any of these hooks, each marked with
`@hookimpl`. A hook returns records, which describe plugins and refer to their code without importing it. This page is
made by `make docs` from `aipcore/hooks/specs.py` and `aipcore/hooks/records.py`. [Your first
plugin](howto/first-plugin.md) creates a plugin that passes all checks; [Writing a plugin](plugins.md) explains the
details.

The version of this API is {API_VERSION}. A module can declare the version that it targets, `AIP_API = {API_VERSION}`.
An aip of another version then lists it as broken instead of failing later; see [Versions of the plugin
API](plugin-api-versions.md).

A reference `"package.module:attribute"` is imported when the plugin is used. The module of the entry point and the
module of the parameters must not import TensorFlow, Keras, NumPy or grain.

A `.py` file without a package implements the same hooks: a file of `-p FILE.py` or of `[tool.aip] plugins` in a
`pyproject.toml`, or the file of a scenario. Its records may contain functions and classes in place of references:
`build=make_optimizer`. See [Own components without a package](howto/own-components.md).
"""


def reference() -> str:
    """Return the text of the page."""
    plugins = get_plugin_manager()
    parts = [HEAD]
    for name, record in HOOKS.items():
        text = inspect.cleandoc(getattr(specs, name).__doc__)
        summary, _, example = text.partition("Example::")
        parts.append(f"## `{name}`\n\n{summary.strip()}\n")
        parts.append(f"It returns an iterable of `{record.__name__}`. {prose(_about(record))}")
        parts.append(table("field | type | default | ", _fields(record)))
        code = inspect.cleandoc(chr(10) + example).strip().replace("\n\n@hookimpl", "\n\n\n@hookimpl")
        parts.append(f"```python\n{code}\n```\n")
        names = [entry.record.name for entry in plugins.of_kind(record.kind) if entry.plugin.is_own]
        if names:
            parts.append(f"Built-in: {', '.join(f'`{each}`' for each in names)}.\n")
    return "\n".join(parts)


def _about(record: type[PluginRecord]) -> str:
    """Return the docstring of a record without its first sentence, which names the kind, and its attributes."""
    text = inspect.cleandoc(record.__doc__ or "").partition("\n\nAttributes:")[0]
    return text.partition(". ")[2] or text


def _fields(record: type[PluginRecord]) -> list[tuple[str, ...]]:
    said: dict[str, str] = {"params": "Parameter class, or a reference to it."}
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
