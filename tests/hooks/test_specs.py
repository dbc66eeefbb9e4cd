"""Every hook is specified, documented by a working example, and collected."""

from __future__ import annotations

import inspect
import textwrap

import pytest

from aipcore.hooks import specs
from aipcore.hooks.discovery import HOOKS, KINDS


def test_every_kind_has_a_hook():
    """The specified hooks are the collected ones, one per kind."""
    marked = {name for name, value in vars(specs).items() if hasattr(value, "aip_spec")}
    assert marked == set(HOOKS)
    assert [hook.removeprefix("aip_").removesuffix("s") for hook in HOOKS] == list(KINDS)


@pytest.mark.parametrize("hook", HOOKS)
def test_example_is_a_plugin(hook, install, load):
    """The example in a hook's docstring, installed unchanged, registers a plugin of that kind."""
    docstring = inspect.getdoc(getattr(specs, hook))
    source = textwrap.dedent(docstring.partition("Example::\n")[2])
    install("example", source)
    manager = load()
    assert manager.broken() == []
    (entry,) = [entry for entry in manager.entries if not entry.plugin.is_own]
    assert type(entry.record) is HOOKS[hook]
    assert manager.get(HOOKS[hook].kind, entry.record.name) is entry.record
