"""The tree of a parameter class: groups, leaves, and components with their choice.

The command line, files, records and the help share this tree. It starts with the defaults, and each layer changes it
in turn. `walk` iterates over it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from aipcore.errors import AipError, ParamsError
from aipcore.params.declare import NO_CHOICES, REQUIRED, Choices, FieldSpec, StaticChoices
from aipcore.params.fields import Field, fields_of
from aipcore.params.names import normalize
from aipcore.params.types import LeafType

DEFAULT = "default"
"""Origin of default values."""

COMPONENT_KEY = "name"
"""Key for the name of a component in files. Components cannot have a field with this name."""

NUMBER = "N"
"""Last step of the path of a component that may be repeated and is not selected."""

Path = tuple[str, ...]


@attrs.define(kw_only=True, eq=False)
class Leaf:
    """A single value."""

    path: Path
    spec: FieldSpec
    type: LeafType
    value: Any
    origin: str = DEFAULT
    withheld: bool = False
    """True if the value is the redacted form of a secret."""

    @property
    def name(self) -> str:
        """The dotted path."""
        return ".".join(self.path)

    @property
    def missing(self) -> bool:
        """True if the user still has to give the value."""
        return self.value is REQUIRED


@attrs.define(kw_only=True, eq=False)
class Group:
    """The fields of one parameter class, also of a chosen component."""

    path: Path
    cls: type
    help: str
    children: dict[str, Node] = attrs.field(factory=dict)
    component: Component | None = None
    choice: str = ""
    """Name in `component` by which the group was chosen."""
    aliases: dict[str, str] = attrs.field(factory=dict)
    """From each alias to the name of its field."""
    shorts: dict[str, Path] = attrs.field(factory=dict)
    """Of the root: from each short form to its path, such as `optimizer` to `trainer.optimizer`."""

    def child(self, name: str) -> Node | None:
        """Return the field with this name or alias. `-` and `_` are equivalent."""
        name = name.replace("-", "_")
        return self.children.get(self.aliases.get(name, name))


@attrs.define(kw_only=True, eq=False)
class Component:
    """A choice of one component, of at most one, or of several, all of one kind.

    Attributes:
        source: registry of the available components.
        kind: kind of the components in `source`.
        optional: True if the choice may be empty.
        choices: registry for nested component fields.
        chosen: parameters of the chosen components, by name, or by number from 1 if they may be repeated.
        problem: reason why the default cannot be used.
    """

    path: Path
    spec: FieldSpec
    source: Choices
    kind: str
    optional: bool
    choices: Choices
    chosen: dict[str, Group] = attrs.field(factory=dict)
    origin: str = DEFAULT
    problem: AipError | None = None

    @property
    def several(self) -> bool:
        """True if any number of components can be chosen."""
        return self.spec.several

    @property
    def names(self) -> Sequence[str]:
        """The available names."""
        return self.source.names(self.kind)

    @property
    def selected(self) -> list[str]:
        """The names of the chosen components."""
        return [group.choice for group in self.chosen.values()]

    def __str__(self) -> str:
        return " ".join(self.selected) or "none"

    def child(self, name: str) -> Node | None:
        """Return a component by number or unique name if several can be chosen, otherwise a field of the chosen one."""
        if not self.several:
            return next((group.child(name) for group in self.chosen.values()), None)
        found = [group for group in self.chosen.values() if normalize(group.choice) == normalize(name)]
        return self.chosen.get(name, found[0] if len(found) == 1 else None)

    def choose(self, names: Iterable[str], origin: str, outlasting: Collection[str] = ()) -> None:
        """Replace the components and their options. Values of `outlasting` origins are kept for fields that both have.

        Raises:
            AipError: a component is unknown or cannot be used.
        """
        before = self.chosen
        chosen: dict[str, Group] = {}
        for number, name in enumerate(names, 1):
            known = self.source.canonical(self.kind, name)
            key = self.key(number, known)
            if key in chosen:
                raise ParamsError(f"The {self.kind} {known} is named twice. Name it once.")
            chosen[key] = self.made(known, key=key)
        self.chosen, self.origin, self.problem = chosen, origin, None
        # A new list of repeated components has other ones at the same numbers.
        if not self.spec.repeat:
            self.keep(before, outlasting)

    def key(self, number: int, name: str) -> str:
        """Return the key of a component in `chosen`, also the last step of its path if several can be chosen."""
        return str(number) if self.spec.repeat else name

    def keep(self, before: Mapping[str, Group], outlasting: Collection[str]) -> None:
        """Copy the values with an origin in `outlasting` from the previously chosen components."""
        for key, group in self.chosen.items():
            old = before.get(key) if self.several else next(iter(before.values()), None)
            if old is not None and (not self.spec.repeat or old.choice == group.choice):
                _take_over(old, group, outlasting)

    def made(self, name: str, value: Any = None, *, key: str = "") -> Group:
        """Return the parameters of a component, from an instance or from the defaults.

        Args:
            name: displayed name.
            value: instance of its parameter class; None for the defaults.
            key: key of a chosen component; empty for an unselected one.
        """
        cls = self.source.params_class(self.kind, name) if value is None else type(value)
        path = (*self.path, key or (NUMBER if self.spec.repeat else name)) if self.several else self.path
        group = _group(cls, path, "", self.choices, value)
        group.component, group.choice = self, name
        if COMPONENT_KEY in group.children:
            raise ParamsError(f"{cls.__name__} has a field {COMPONENT_KEY!r}, which is reserved. Rename it.")
        return group


Node = Leaf | Group | Component


def parts(node: Node) -> Iterable[Node]:
    """Return the nodes directly below a node."""
    match node:
        case Leaf():
            return ()
        case Group():
            return node.children.values()
        case Component():
            return node.chosen.values()


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and all nodes below it, in the order of declaration."""
    yield node
    for below in parts(node):
        yield from walk(below)


def leaves(node: Node) -> Iterator[Leaf]:
    """Yield all leaves of a node."""
    return (each for each in walk(node) if isinstance(each, Leaf))


def components(node: Node) -> Iterator[Component]:
    """Yield all components of a node, chosen or not."""
    return (each for each in walk(node) if isinstance(each, Component))


def made_of(
    node: Node,
    leaf: Callable[[Leaf], Any],
    group: Callable[[Group, dict[str, Any]], Any],
    choice: Callable[[str, Any], Any],
) -> Any:
    """Fold a node bottom-up: combine the results of the nodes below it.

    Args:
        node: node to fold.
        leaf: function from a leaf to its result.
        group: function from a group and the results of its fields to its result.
        choice: function from the name of a chosen component and the result of its group to its result.
    """
    match node:
        case Leaf():
            return leaf(node)
        case Group():
            return group(node, {name: made_of(each, leaf, group, choice) for name, each in node.children.items()})
        case Component():
            found = [choice(each.choice, made_of(each, leaf, group, choice)) for each in node.chosen.values()]
            return found if node.several else found[0] if found else None


def build_tree(cls: type, choices: Choices = NO_CHOICES) -> Group:
    """Return the tree of a parameter class, filled with its defaults."""
    root = _group(cls, (), "", choices, None)
    for group in root.children.values():
        for field in fields_of(group.cls) if isinstance(group, Group) else ():
            if not field.spec.short:
                continue
            if field.name in root.children or field.name in root.shorts:
                raise ParamsError(f"The short form {field.name} fits two parameters of {cls.__name__}. Rename one.")
            root.shorts[field.name] = (*group.path, field.name)
    return root


def tree_of(value: Any) -> Group:
    """Return the tree of an instance of a parameter class, filled with its values."""
    return _group(type(value), (), "", NO_CHOICES, value)


def _group(cls: type, path: Path, text: str, choices: Choices, value: Any) -> Group:
    group = Group(path=path, cls=cls, help=text)
    for field in fields_of(cls):
        given = field.default if value is None else getattr(value, field.name)
        group.aliases.update(dict.fromkeys(field.spec.aliases, field.name))
        group.children[field.name] = _node(field, given, (*path, field.name), choices, is_default=value is None)
    return group


def _node(field: Field, value: Any, path: Path, choices: Choices, *, is_default: bool) -> Node:
    spec = field.spec
    if spec.kind == "group":
        return _group(value if is_default else type(value), path, spec.help, choices, None if is_default else value)
    if field.type is not None:
        return Leaf(path=path, spec=spec, type=field.type, value=dict(value) if isinstance(value, dict) else value)
    source, kind = choices, field.name
    if isinstance(spec.choices, Mapping):
        source = StaticChoices({kind: spec.choices})
    elif spec.choices is not None:
        kind = spec.choices
    node = Component(path=path, spec=spec, source=source, kind=kind, optional=field.default is None, choices=choices)
    chosen = value if spec.several else () if value is None else (value,)
    if not is_default or any(each.params is not None for each in chosen):
        keys = [node.key(number, each.name) for number, each in enumerate(chosen, 1)]
        node.chosen = {key: node.made(each.name, each.params, key=key) for key, each in zip(keys, chosen, strict=True)}
        return node
    # A broken or disabled default plugin is an error only if no other is chosen.
    try:
        node.choose([each.name for each in chosen], DEFAULT)
    except AipError as error:
        node.problem = error
    return node


def refuse_problems(node: Node) -> None:
    """Raise the error of a default component that cannot be used and was not replaced."""
    for each in components(node):
        if each.problem is not None:
            raise each.problem


def _take_over(before: Group, after: Group, outlasting: Collection[str]) -> None:
    """Copy values with an origin in `outlasting` from `before` to `after`, for fields inherited from the same class."""
    for name, old in before.children.items():
        new = after.children.get(name)
        if new is None or not _same_field(before.cls, after.cls, name):
            continue
        match old, new:
            case Leaf(), Leaf():
                check = new.spec.check
                fits = old.type == new.type and (check is None or check.accepts(old.value))
                if old.origin in outlasting and fits:
                    new.value, new.origin = old.value, old.origin
            case Group(), Group():
                _take_over(old, new, outlasting)
            case Component(), Component():
                if old.origin in outlasting:
                    new.choose(old.selected, old.origin)
                new.keep(old.chosen, outlasting)


def _same_field(one: type, other: type, name: str) -> bool:
    """Return True if two parameter classes inherit a field from the same class. Names alone may coincide."""
    return any(attrs.has(base) and name in attrs.fields_dict(base) for base in one.__mro__ if issubclass(other, base))


def shown(path: Path, shorts: Mapping[str, Path]) -> str:
    """Return the dotted name shown to users, in its short form if it has one."""
    for name, long in shorts.items():
        if path[: len(long)] == long:
            return ".".join((name, *path[len(long) :]))
    return ".".join(path)


def also(leaf: Leaf, shorts: Mapping[str, Path]) -> tuple[str, ...]:
    """Return the dotted aliases of a leaf, in their short form if they have one."""
    return tuple(shown((*leaf.path[:-1], alias), shorts) for alias in leaf.spec.aliases)


def find(root: Group, name: str) -> Node | None:
    """Return the node with a dotted name (long or short form) in the current selection, or None."""
    steps = name.split(".")
    first = steps[0].replace("-", "_")
    if first not in root.children and first in root.shorts:
        steps = [*root.shorts[first], *steps[1:]]
    return _below(root, steps)


def _below(node: Node | None, steps: Iterable[str]) -> Node | None:
    for step in steps:
        node = None if node is None or isinstance(node, Leaf) else node.child(step)
    return node


def owners(root: Group, name: str) -> list[tuple[Component, str]]:
    """Return the components and their unselected choices that have an option with this name."""
    steps = name.split(".")
    found: list[tuple[Component, str]] = []
    for cut in range(1, len(steps)):
        node, rest = find(root, ".".join(steps[:cut])), steps[cut:]
        if not isinstance(node, Component):
            continue
        candidates = [known for known in node.names if known not in node.selected]
        if node.spec.repeat:
            group, rest = node.child(rest[0]), rest[1:]
            candidates = [known for known in node.names if known != group.choice] if isinstance(group, Group) else []
        elif node.several:
            candidates = [known for known in candidates if normalize(known) == normalize(rest[0])]
            rest = rest[1:]
        for known in candidates if rest else ():
            try:
                group = node.made(known)
            except AipError:
                # An unusable plugin has no options. Choosing it reports the reason.
                continue
            if _below(group, rest) is not None:
                found.append((node, known))
    return found
