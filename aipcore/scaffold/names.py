"""Names of distribution, package and class, derived from the name of a plugin."""

from __future__ import annotations

import keyword
import re

import attrs

from aipcore.errors import PluginError
from aipcore.hooks.discovery import RESERVED_COMMANDS
from aipcore.hooks.manager import PluginManager
from aipcore.params.names import normalize

PREFIX = "aip-plugin-"
GIVEN = re.compile(r"[A-Za-z][A-Za-z0-9]*([-_][A-Za-z0-9]+)*")
WORD_ENDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[-_]+")


@attrs.frozen(kw_only=True)
class Names:
    """The names of one plugin and its package.

    Attributes:
        kind: kind of the plugin.
        plugin: name typed by users, as given.
        distribution: pip name, normalized as in PEP 503.
        package: import name.
        point: entry point.
        cls: prefix of class names.
        snake: snake_case form, for functions and the like.
    """

    kind: str
    plugin: str
    distribution: str
    package: str
    point: str
    cls: str
    snake: str


def names_for(kind: str, given: str, manager: PluginManager) -> Names:
    """Derive all names from the given one.

    Raises:
        PluginError: the name is invalid, or already taken by a plugin of this kind.
    """
    bare = given[len(PREFIX) :] if given.lower().startswith(PREFIX) else given
    if len(bare) > 40 or not GIVEN.fullmatch(bare):
        raise PluginError(
            f"{given!r} is not a valid plugin name. Use at most 40 letters and digits, beginning with a letter, in "
            "words joined by - or _, such as SignSGD or sign-sgd."
        )
    words = [word for word in WORD_ENDS.split(bare) if word]
    names = Names(
        kind=kind,
        plugin=bare,
        distribution=PREFIX + "-".join(words).lower(),
        package="aip_plugin_" + "_".join(words).lower(),
        point="_".join(words).lower(),
        cls="".join(word[0].upper() + word[1:] for word in words),
        snake="_".join(words).lower(),
    )
    if keyword.iskeyword(names.plugin) or keyword.iskeyword(names.snake):
        raise PluginError(f"{given!r} is a keyword of Python. Give the plugin another name.")
    if manager.has(kind, names.plugin):
        owner = manager.entry(kind, names.plugin).plugin.source
        raise PluginError(f"The name {names.plugin} is taken by the {kind} of {owner}. Give the plugin another name.")
    if kind == "command" and normalize(names.plugin) in {normalize(name) for name in RESERVED_COMMANDS}:
        raise PluginError(f"The command name {names.plugin} is reserved for aip. Give the plugin another name.")
    return names
