"""The tree of a parameter class: groups, leaves, and components with their choice.

The tree holds what the command line, a file, a record and the help have in common. It begins with the defaults, and
each layer changes it in turn. `walk` leads through it.
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
"""The origin of a value that no layer gave."""

COMPONENT_KEY = "name"
"""The key that names a component in files; no component may have a field of this name."""

Path = tuple[str, ...]


@attrs.define(kw_only=True, eq=False)
class Leaf:
    """One value."""

    path: Path
    spec: FieldSpec
    type: LeafType
    value: Any
    origin: str = DEFAULT
    withheld: bool = False
    """Whether the value is what a record holds for a secret."""

    @property
    def name(self) -> str:
        """The dotted path."""
        return ".".join(self.path)

    @property
    def missing(self) -> bool:
        """Whether the user still has to give it."""
        return self.value is REQUIRED


@attrs.define(kw_only=True, eq=False)
class Group:
    """The fields of one parameter class, which may be that of a chosen component."""

    path: Path
    cls: type
    help: str
    children: dict[str, Node] = attrs.field(factory=dict)
    component: Component | None = None
    choice: str = ""
    """The name in `component` by which the group was chosen."""
    shorts: dict[str, Path] = attrs.field(factory=dict)
    """Of the root: from each short form to the path it stands for, such as `optimizer` to `trainer.optimizer`."""

    def child(self, name: str) -> Node | None:
        """Return the field of this name; `-` is `_`."""
        return self.children.get(name.replace("-", "_"))


@attrs.define(kw_only=True, eq=False)
class Component:
    """A choice of components of one kind: of one or none, or of several.

    Attributes:
        source: knows the components that can be chosen.
        kind: theirs in `source`.
        optional: whether none may be chosen.
        choices: the components of fields further inside.
        chosen: the parameters by name.
        problem: why the default cannot be used.
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
        """Whether any number can be chosen."""
        return self.spec.several

    @property
    def names(self) -> Sequence[str]:
        """The names that can be chosen."""
        return self.source.names(self.kind)

    def __str__(self) -> str:
        return " ".join(self.chosen) or "none"

    def child(self, name: str) -> Node | None:
        """Return the field of this name of the chosen component; if there may be several, the component itself."""
        if self.several:
            return next((group for known, group in self.chosen.items() if normalize(known) == normalize(name)), None)
        return next((group.child(name) for group in self.chosen.values()), None)

    def choose(self, names: Iterable[str], origin: str, outlasting: Collection[str] = ()) -> None:
        """Replace the components and their options, except values of `outlasting` origins for fields that both have.

        Raises:
            AipError: a component is unknown or cannot be used.
        """
        before = self.chosen
        chosen: dict[str, Group] = {}
        for name in names:
            known = self.source.canonical(self.kind, name)
            if known in chosen:
                raise ParamsError(f"The {self.kind} {known} is named twice: name it once.")
            chosen[known] = self.made(known)
        self.chosen, self.origin, self.problem = chosen, origin, None
        self.keep(before, outlasting)

    def keep(self, before: Mapping[str, Group], outlasting: Collection[str]) -> None:
        """Take the values of components that were chosen before whose origin is one of `outlasting`."""
        for name, group in self.chosen.items():
            old = before.get(name) if self.several else next(iter(before.values()), None)
            if old is not None:
                _take_over(old, group, outlasting)

    def made(self, name: str, value: Any = None) -> Group:
        """Return the parameters of a component: those of an instance, or the defaults."""
        cls = self.source.params_class(self.kind, name) if value is None else type(value)
        path = (*self.path, name) if self.several else self.path
        group = _group(cls, path, "", self.choices, value)
        group.component, group.choice = self, name
        if COMPONENT_KEY in group.children:
            raise ParamsError(f"{cls.__name__} has a field {COMPONENT_KEY!r}, which is reserved: call it otherwise.")
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
    """Return what is made of a node from what is made of the nodes below it.

    Args:
        node: a node.
        leaf: what is made of a leaf.
        group: what is made of a group, from that of its fields.
        choice: what is made of a chosen component, from its name and that of its group.
    """
    match node:
        case Leaf():
            return leaf(node)
        case Group():
            return group(node, {name: made_of(each, leaf, group, choice) for name, each in node.children.items()})
        case Component():
            found = [choice(name, made_of(each, leaf, group, choice)) for name, each in node.chosen.items()]
            return found if node.several else found[0] if found else None


def build_tree(cls: type, choices: Choices = NO_CHOICES) -> Group:
    """Return the tree of a parameter class, filled with its defaults."""
    root = _group(cls, (), "", choices, None)
    for group in root.children.values():
        for field in fields_of(group.cls) if isinstance(group, Group) else ():
            if not field.spec.short:
                continue
            if field.name in root.children or field.name in root.shorts:
                raise ParamsError(f"The short form {field.name} stands for two parameters of {cls.__name__}.")
            root.shorts[field.name] = (*group.path, field.name)
    return root


def tree_of(value: Any) -> Group:
    """Return the tree of an instance of a parameter class, filled with its values."""
    return _group(type(value), (), "", NO_CHOICES, value)


def _group(cls: type, path: Path, text: str, choices: Choices, value: Any) -> Group:
    group = Group(path=path, cls=cls, help=text)
    for field in fields_of(cls):
        given = field.default if value is None else getattr(value, field.name)
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
    if not is_default:
        node.chosen = {each.name: node.made(each.name, each.params) for each in chosen}
        return node
    # A default whose plugin is broken or disabled matters only to those who choose no other.
    try:
        node.choose([each.name for each in chosen], DEFAULT)
    except AipError as error:
        node.problem = error
    return node


def refuse_problems(node: Node) -> None:
    """Raise what is wrong with a default component for which no other was chosen."""
    for each in components(node):
        if each.problem is not None:
            raise each.problem


def _take_over(before: Group, after: Group, outlasting: Collection[str]) -> None:
    """Give `after` the values of `before` whose origin is one of `outlasting`, for fields of classes in common."""
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
                    new.choose(old.chosen, old.origin)
                new.keep(old.chosen, outlasting)


def _same_field(one: type, other: type, name: str) -> bool:
    """Whether two parameter classes have a field from a class in common; names alone may coincide."""
    return any(attrs.has(base) and name in attrs.fields_dict(base) for base in one.__mro__ if issubclass(other, base))


def shown(path: Path, shorts: Mapping[str, Path]) -> str:
    """Return the dotted name that users see, in its short form if it has one."""
    for name, long in shorts.items():
        if path[: len(long)] == long:
            return ".".join((name, *path[len(long) :]))
    return ".".join(path)


def find(root: Group, name: str) -> Node | None:
    """Return the node that a dotted name (long or short form) leads to in the current selection."""
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
    """Return the components, with the choices not taken, under which an option of this name exists."""
    steps = name.split(".")
    found: list[tuple[Component, str]] = []
    for cut in range(1, len(steps)):
        node, rest = find(root, ".".join(steps[:cut])), steps[cut:]
        if not isinstance(node, Component):
            continue
        candidates = [known for known in node.names if known not in node.chosen]
        if node.several:
            candidates = [known for known in candidates if normalize(known) == normalize(rest[0])]
            rest = rest[1:]
        for known in candidates if rest else ():
            try:
                group = node.made(known)
            except AipError:
                # A plugin that cannot be used owns nothing; choosing it says why.
                continue
            if _below(group, rest) is not None:
                found.append((node, known))
    return found
