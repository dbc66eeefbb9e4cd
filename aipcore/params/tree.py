"""The tree of a parameter class: groups, leaves, and components with their choice.

The tree holds what the command line, a file, a record and the help have in common. It begins with the defaults, and
each layer changes it in turn. `walk` leads through it.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from aipcore.errors import AipError, ParamsError
from aipcore.params.declare import (
    METADATA_KEY,
    NO_CHOICES,
    REQUIRED,
    Choices,
    FieldSpec,
    StaticChoices,
    require_decorated,
    spec_of,
)
from aipcore.params.names import normalize
from aipcore.params.types import LeafType, NotAllowedError, leaf_type, type_name

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
        for name in _shorts(group) if isinstance(group, Group) else ():
            if name in root.children or name in root.shorts:
                raise ParamsError(f"The short form {name} stands for two parameters of {cls.__name__}.")
            root.shorts[name] = (*group.path, name)
    return root


def _shorts(group: Group) -> list[str]:
    return [attribute.name for attribute in attrs.fields(group.cls) if spec_of(attribute).short]


def tree_of(value: Any) -> Group:
    """Return the tree of an instance of a parameter class, filled with its values."""
    return _group(type(value), (), "", NO_CHOICES, value)


def _group(cls: type, path: Path, text: str, choices: Choices, value: Any) -> Group:
    require_decorated(cls)
    if not attrs.has(cls):
        raise ParamsError(f"{cls.__name__} is no parameter class: decorate it with @params.")
    hints = _hints(cls)
    group = Group(path=path, cls=cls, help=text)
    for attribute in _in_order(cls):
        if METADATA_KEY not in attribute.metadata:
            raise ParamsError(f"{cls.__name__}.{attribute.name} must be declared by field(), group() or component().")
        group.children[attribute.name] = _node(cls, attribute, hints, (*path, attribute.name), choices, value)
    return group


def _in_order(cls: type) -> list[Any]:
    """The fields in the order in which they were first declared: one that a subclass declares anew keeps its place."""
    order: dict[str, None] = {}
    for base in reversed(cls.__mro__):
        if attrs.has(base):
            order.update(dict.fromkeys(attribute.name for attribute in attrs.fields(base)))
    by_name = attrs.fields_dict(cls)
    return [by_name[name] for name in order]


def _node(cls: type, attribute: Any, hints: Mapping[str, Any], path: Path, choices: Choices, owner: Any) -> Node:
    spec, where = spec_of(attribute), f"{cls.__name__}.{attribute.name}"
    value = None if owner is None else getattr(owner, attribute.name)
    if spec.kind == "group":
        return _group(attribute.default.factory if owner is None else type(value), path, spec.help, choices, value)
    if spec.kind == "component":
        return _component(spec, attribute.default, path, choices, owner, value)
    if attribute.name not in hints:
        raise ParamsError(f"{where} has no type: annotate it.")
    leaf = leaf_type(hints[attribute.name], where)
    if spec.secret and (leaf.form != "one" or leaf.items != (str,)):
        raise ParamsError(f"{where} is declared as a secret: its type must be str or str | None.")
    return Leaf(path=path, spec=spec, type=leaf, value=_default(attribute, leaf, where) if owner is None else value)


def _component(spec: FieldSpec, default: Any, path: Path, choices: Choices, owner: Any, value: Any) -> Component:
    source, kind = choices, path[-1]
    if isinstance(spec.choices, Mapping):
        source = StaticChoices({kind: spec.choices})
    elif spec.choices is not None:
        kind = spec.choices
    node = Component(path=path, spec=spec, source=source, kind=kind, optional=default is None, choices=choices)
    given = default if owner is None else value
    chosen = given if spec.several else () if given is None else (given,)
    if owner is not None:
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


def _default(attribute: Any, leaf: LeafType, where: str) -> Any:
    default = attribute.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = default.factory()
    if default is REQUIRED:
        return default
    wrong = f"The default of {where}, {default!r}, is not allowed: it must be"
    try:
        value = leaf.from_plain(default)
    except NotAllowedError:
        raise ParamsError(f"{wrong} {leaf.words} ({type_name(leaf.annotation)}).") from None
    # A file may hold text for a path and a list for a tuple, but an instance made in Python would keep them.
    if type(value) is not type(default) and not (type(value), type(default)) == (float, int):
        raise ParamsError(f"{wrong} of the type {type_name(leaf.annotation)}.")
    check = attribute.metadata[METADATA_KEY].check
    if check is not None and not check.accepts(value):
        raise ParamsError(f"{wrong} {check.allowed}.")
    return value


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


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except (NameError, AttributeError, TypeError, SyntaxError):
        return _hints_one_by_one(cls)


def _hints_one_by_one(cls: type) -> dict[str, Any]:
    # Only leaves need their types; a group's class may be imported for type checkers alone, or be local to a function.
    hints: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        scope = vars(sys.modules[base.__module__]) if base.__module__ in sys.modules else {}
        for name, written in vars(base).get("__annotations__", {}).items():
            attribute = attrs.fields_dict(cls).get(name)
            if attribute is None or METADATA_KEY not in attribute.metadata or spec_of(attribute).kind != "value":
                continue
            holder = types.SimpleNamespace(__annotations__={name: written})
            try:
                hints |= typing.get_type_hints(holder, scope, dict(vars(base)))
            except (NameError, AttributeError, TypeError, SyntaxError) as error:
                raise ParamsError(
                    f"The type of {cls.__name__}.{name}, {written}, cannot be read ({error}): "
                    f"import it at the top of {base.__module__}."
                ) from error
    return hints


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
