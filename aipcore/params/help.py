"""The help of a filled tree: sections of options, and the parts of them that a word selects."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from aipcore.errors import AipError
from aipcore.params.declare import NO_CHOICES, REQUIRED, Choices
from aipcore.params.hints import meant_option
from aipcore.params.names import normalize
from aipcore.params.secret import recorded
from aipcore.params.tree import Component, Group, Leaf, also, build_tree, components, leaves, parts, shown, walk
from aipcore.params.types import to_plain


@attrs.frozen(kw_only=True)
class Description:
    """The displayed facts of one option.

    Attributes:
        name: dotted name in its short form, without dashes.
        path: dotted name in its long form.
        metavar: placeholder of the value.
        default: value in the tree, as it would be typed; empty without one.
        origin: origin of that value, or "default".
        required: True if the user must give a value.
        limit: end of the sentence "must be ..."; empty if the type is the only limit.
        help: one sentence.
        choices: for components, the available names, each with a sentence.
        aliases: further names, dotted.
    """

    name: str
    path: str
    metavar: str
    default: str
    origin: str
    required: bool
    limit: str
    help: str
    choices: tuple[tuple[str, str], ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The first sentence of `help`."""
        return first_sentence(self.help)

    @property
    def requirement(self) -> str:
        """The limit as a sentence; empty if the type is the only limit."""
        return f"Must be {self.limit}." if self.limit else ""


@attrs.frozen(kw_only=True)
class Section:
    """The options of a group or of a component.

    Attributes:
        name: dotted name in its short form.
        path: dotted name in its long form.
        choice: name of the chosen component; empty for other sections.
        help: one sentence.
        options: options of the section. The first one of a component is its choice.
    """

    name: str
    path: str = ""
    choice: str = ""
    help: str
    options: tuple[Description, ...]

    @property
    def title(self) -> str:
        """The name, with the choice of a component."""
        return f"{self.name}: {self.choice}" if self.choice else self.name


def first_sentence(text: str) -> str:
    """Return the first sentence of a help text."""
    return re.split(r"(?<=\.)(?<!e\.g\.)(?<!i\.e\.)\s", text, maxsplit=1)[0]


def plain(text: str) -> str:
    """Return a text for the terminal, without the backticks that mark code on documentation pages."""
    return text.replace("`", "")


def describe(cls: type, choices: Choices = NO_CHOICES, prefix: str = "") -> list[Description]:
    """Return all options of a parameter class with its defaults, under names that begin with `prefix`."""
    tree = build_tree(cls, choices)
    found = [option for section in sections(tree) for option in section.options]
    return [
        attrs.evolve(each, name=prefix + each.name, aliases=tuple(prefix + alias for alias in each.aliases))
        for each in found
    ]


def sections(tree: Group) -> list[Section]:
    """Return the options of a filled tree in sections, in the order of declaration."""
    found: list[Section] = []
    for node in walk(tree):
        name, choice, options = shown(node.path, tree.shorts), "", []
        match node:
            case Leaf():
                continue
            case Component() if node.chosen and not node.several:
                continue
            case Component():
                text, options = node.spec.help, [_describe_component(node, name)]
            case Group(component=Component() as owner) if owner.several:
                text = owner.source.summary(owner.kind, node.choice)
                choice = node.choice if owner.spec.repeat else ""
            case Group(component=Component() as owner):
                text, choice, options = owner.spec.help, node.choice, [_describe_component(owner, name)]
            case Group():
                text = node.help
        options += [_describe_leaf(each, tree) for each in parts(node) if isinstance(each, Leaf)]
        if options:
            path = ".".join(node.path)
            found.append(Section(name=name, path=path, choice=choice, help=text, options=tuple(options)))
    return found


def _describe_leaf(leaf: Leaf, tree: Group) -> Description:
    return Description(
        name=shown(leaf.path, tree.shorts),
        path=leaf.name,
        metavar=leaf.type.metavar,
        default="" if leaf.missing else as_typed(recorded(leaf.spec, to_plain(leaf.value))),
        origin=leaf.origin,
        required=leaf.missing,
        limit=leaf.spec.check.allowed if leaf.spec.check else "",
        help=plain(leaf.spec.help),
        aliases=also(leaf, tree.shorts),
    )


def _describe_component(node: Component, name: str) -> Description:
    return Description(
        name=name,
        path=".".join(node.path),
        metavar="NAME ..." if node.several else "NAME",
        default=" ".join(node.selected) or ("" if node.several else "none"),
        origin=node.origin,
        required=False,
        limit="",
        help=node.spec.help,
        choices=tuple((each, node.source.summary(node.kind, each)) for each in node.names),
    )


def as_typed(value: Any) -> str:
    """Return a value as it would be typed on the command line."""
    plain = to_plain(value)
    if value is REQUIRED:
        return ""
    if plain is None:
        return "none"
    if isinstance(plain, list):
        return " ".join(as_typed(item) for item in plain)
    if isinstance(plain, dict):
        return " ".join(f"{key}={as_typed(item)}" for key, item in plain.items())
    return repr(plain) if isinstance(plain, float) else str(plain)


def named(found: Sequence[Section], word: str) -> list[Section]:
    """Return the sections of the groups with this name, else the section of the option with this name or alias."""
    name = _typed(word)
    groups = [each for each in found if _is_in(each, name)]
    return groups or _filtered(found, lambda each: name in map(_typed, (each.name, each.path, *each.aliases)))


def _is_in(section: Section, name: str) -> bool:
    """Return True if a section has this name, is inside of a group with this name, or is of a component so called."""
    names = (section.name, section.path) if "." in name else (section.name,)
    return any(f"{_typed(each)}.".startswith(f"{name}.") for each in names) or (
        bool(section.choice) and normalize(section.choice) == normalize(name)
    )


def of_choice(tree: Group, word: str) -> list[Section]:
    """Return the sections of the components with this name, chosen or not."""
    found: list[Section] = []
    for node in components(tree):
        for name in node.names:
            if normalize(name) == normalize(word):
                found += sections(attrs.evolve(node.made(name), shorts=tree.shorts))
    return found


def containing(found: Sequence[Section], word: str) -> list[Section]:
    """Return the options whose name, alias, help or choices contain a word, or that another framework calls so."""
    meant = meant_option(word)
    return _filtered(found, lambda each: each.name == meant or _contains(each, word))


def _contains(option: Description, word: str) -> bool:
    names = [option.name, *option.aliases, *(choice for choice, _ in option.choices)]
    return any(_typed(word) in _typed(each) for each in names) or word.casefold() in option.help.casefold()


def _typed(name: str) -> str:
    return name.casefold().replace("-", "_")


def _filtered(found: Sequence[Section], wanted: Callable[[Description], bool]) -> list[Section]:
    kept = [attrs.evolve(each, options=tuple(filter(wanted, each.options))) for each in found]
    return [each for each in kept if each.options]


def of_other_choices(tree: Group, word: str) -> dict[str, list[str]]:
    """Return the options with a word in their name that only unselected components have, with these components."""
    found: dict[str, list[str]] = {}
    here = {node.path for node in walk(tree)}
    for node in components(tree):
        for known in node.names:
            try:
                inside = [] if known in node.selected else list(leaves(node.made(known)))
            except AipError:
                # An unusable plugin has no options.
                continue
            for leaf in inside:
                if leaf.path not in here and _typed(word) in _typed(leaf.path[-1]):
                    found.setdefault(shown(leaf.path, tree.shorts), []).append(known)
    return found
