"""The tree of a parameter class while it is being filled: groups, leaves, and components with their choice.

The tree holds what the command line, a file and the help have in common. It begins with the defaults, and each layer
changes it in turn.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
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
    def missing(self) -> bool:
        """Whether the user still has to give it."""
        return self.value is REQUIRED


@attrs.define(kw_only=True, eq=False)
class Group:
    """The fields of one parameter class."""

    path: Path
    cls: type
    help: str
    children: dict[str, Node]

    def child(self, name: str) -> Node | None:
        """The field of this name; `-` is `_`."""
        return self.children.get(name.replace("-", "_"))


@attrs.define(kw_only=True, eq=False)
class Component:
    """A choice of one parameter class, or of none."""

    path: Path
    spec: FieldSpec
    source: Choices
    kind: str
    optional: bool
    choice: str | None = None
    group: Group | None = None
    origin: str = DEFAULT
    problem: AipError | None = None

    def choose(self, name: str | None, origin: str, choices: Choices, outlasting: Collection[str] = ()) -> None:
        """Replace the component and its options, except values of `outlasting` origins for fields that both have."""
        before = self.group
        self.origin = origin
        self.problem = None
        if name is None:
            self.choice = self.group = None
            return
        self.choice = self.source.canonical(self.kind, name)
        self.group = _component_group(self.source, self.kind, self.choice, self.path, choices)
        if before is not None:
            _take_over(before, self.group, outlasting, choices)


@attrs.define(kw_only=True, eq=False)
class Components:
    """Any number of components of one kind."""

    path: Path
    spec: FieldSpec
    source: Choices
    kind: str
    groups: dict[str, Group] = attrs.field(factory=dict)
    origin: str = DEFAULT
    problem: AipError | None = None

    def choose(self, names: Sequence[str], origin: str, choices: Choices, outlasting: Collection[str] = ()) -> None:
        """Replace all components and their options, except values of `outlasting` origins for those named again."""
        self.problem = None
        groups: dict[str, Group] = {}
        for name in names:
            known = self.source.canonical(self.kind, name)
            if known in groups:
                raise ParamsError(f"The {self.kind} {known} is named twice: name it once.")
            groups[known] = _component_group(self.source, self.kind, known, (*self.path, known), choices)
            if known in self.groups:
                _take_over(self.groups[known], groups[known], outlasting, choices)
        self.groups, self.origin = groups, origin

    def group(self, name: str) -> Group | None:
        """The chosen component of this name."""
        for known, group in self.groups.items():
            if normalize(known) == normalize(name):
                return group
        return None


Node = Leaf | Group | Component | Components


def build_tree(cls: type, choices: Choices = NO_CHOICES) -> Group:
    """The tree of a parameter class, filled with its defaults."""
    return _group(cls, (), "", choices)


def _group(cls: type, path: Path, text: str, choices: Choices) -> Group:
    require_decorated(cls)
    if not attrs.has(cls):
        raise ParamsError(f"{cls.__name__} is no parameter class: decorate it with @params.")
    hints = _hints(cls)
    group = Group(path=path, cls=cls, help=text, children={})
    for attribute in _in_order(cls):
        if METADATA_KEY not in attribute.metadata:
            raise ParamsError(f"{cls.__name__}.{attribute.name} must be declared by field(), group() or component().")
        group.children[attribute.name] = _node(cls, attribute, hints, (*path, attribute.name), choices)
    return group


def _in_order(cls: type) -> list[Any]:
    """The fields in the order in which they were first declared: one that a subclass declares anew keeps its place."""
    order: dict[str, None] = {}
    for base in reversed(cls.__mro__):
        if attrs.has(base):
            order.update(dict.fromkeys(attribute.name for attribute in attrs.fields(base)))
    by_name = attrs.fields_dict(cls)
    return [by_name[name] for name in order]


def _node(cls: type, attribute: Any, hints: Mapping[str, Any], path: Path, choices: Choices) -> Node:
    spec = spec_of(attribute)
    match spec.kind:
        case "value":
            where = f"{cls.__name__}.{attribute.name}"
            if attribute.name not in hints:
                raise ParamsError(f"{where} has no type: annotate it.")
            leaf = leaf_type(hints[attribute.name], where)
            if spec.secret and (leaf.form != "one" or leaf.items != (str,)):
                raise ParamsError(f"{where} is declared as a secret: its type must be str or str | None.")
            return Leaf(path=path, spec=spec, type=leaf, value=_default(attribute, leaf, where))
        case "group":
            return _group(attribute.default.factory, path, spec.help, choices)
        case "component":
            source, kind = _source(spec, attribute.name, choices)
            made = Component(path=path, spec=spec, source=source, kind=kind, optional=attribute.default is None)
            if attribute.default is not None:
                _choose_default(made, attribute.default.name, choices)
            return made
        case "components":
            source, kind = _source(spec, attribute.name, choices)
            several = Components(path=path, spec=spec, source=source, kind=kind)
            _choose_default(several, [named.name for named in attribute.default], choices)
            return several


def _choose_default(node: Component | Components, given: Any, choices: Choices) -> None:
    # A default whose plugin is broken or disabled matters only to those who choose no other.
    try:
        node.choose(given, DEFAULT, choices)
    except AipError as error:
        node.problem = error


def refuse_problems(node: Node) -> None:
    """Raises what is wrong with a default component for which no other was chosen."""
    if isinstance(node, Component | Components) and node.problem is not None:
        raise node.problem
    for below in parts(node):
        refuse_problems(below)


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


def _source(spec: FieldSpec, name: str, choices: Choices) -> tuple[Choices, str]:
    if isinstance(spec.choices, str):
        return choices, spec.choices
    assert spec.choices is not None
    return StaticChoices({name: spec.choices}), name


def _component_group(source: Choices, kind: str, name: str, path: Path, choices: Choices) -> Group:

    cls = source.params_class(kind, name)
    group = _group(cls, path, source.summary(kind, name), choices)
    if COMPONENT_KEY in group.children:
        raise ParamsError(f"{cls.__name__} has a field {COMPONENT_KEY!r}, which is reserved: call it otherwise.")
    return group


def _take_over(before: Group, after: Group, outlasting: Collection[str], choices: Choices) -> None:
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
                _take_over(old, new, outlasting, choices)
            case Component(), Component():
                if old.origin in outlasting:
                    new.choose(old.choice, old.origin, choices)
                if old.group is not None and new.group is not None:
                    _take_over(old.group, new.group, outlasting, choices)
            case Components(), Components():
                if old.origin in outlasting:
                    new.choose(list(old.groups), old.origin, choices)
                for chosen in old.groups.keys() & new.groups.keys():
                    _take_over(old.groups[chosen], new.groups[chosen], outlasting, choices)


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


def leaves(node: Node) -> Iterator[Leaf]:
    """All leaves below a node, in the order of declaration."""
    if isinstance(node, Leaf):
        yield node
    for below in parts(node):
        yield from leaves(below)


def parts(node: Node) -> list[Node]:
    """The nodes directly below a node."""
    match node:
        case Group():
            return list(node.children.values())
        case Component():
            return [] if node.group is None else [node.group]
        case Components():
            return list(node.groups.values())
        case _:
            return []


def short_paths(root: Group) -> dict[str, Path]:
    """From each short form to the path it stands for: `optimizer` to `trainer.optimizer`."""
    found: dict[str, Path] = {}
    for group in root.children.values():
        if not isinstance(group, Group):
            continue
        for attribute in attrs.fields(group.cls):
            if not spec_of(attribute).short:
                continue
            if attribute.name in root.children or attribute.name in found:
                raise ParamsError(f"The short form {attribute.name} stands for two parameters of {root.cls.__name__}.")
            found[attribute.name] = (*group.path, attribute.name)
    return found


def shown(path: Path, shorts: Mapping[str, Path]) -> str:
    """The dotted name that users see, in its short form if it has one."""
    for name, long in shorts.items():
        if path[: len(long)] == long:
            return ".".join((name, *path[len(long) :]))
    return ".".join(path)


def find(root: Group, name: str, shorts: Mapping[str, Path]) -> Node | None:
    """The node that a dotted name (long or short form) leads to in the current selection."""
    steps = name.split(".")
    first = steps[0].replace("-", "_")
    if first not in root.children and first in shorts:
        steps = [*shorts[first], *steps[1:]]
    node: Node | None = root
    for step in steps:
        match node:
            case Group():
                node = node.child(step)
            case Component():
                node = None if node.group is None else node.group.child(step)
            case Components():
                node = node.group(step)
            case _:
                return None
    return node


def owners(
    root: Group, name: str, shorts: Mapping[str, Path], choices: Choices
) -> list[tuple[Component | Components, str]]:
    """The components, with the choices not taken, under which an option of this name exists."""
    steps = name.split(".")
    found: list[tuple[Component | Components, str]] = []
    for cut in range(1, len(steps)):
        node = find(root, ".".join(steps[:cut]), shorts)
        rest = steps[cut:]
        if isinstance(node, Components) and node.group(rest[0]) is None and len(rest) > 1:
            candidates = [known for known in node.source.names(node.kind) if normalize(known) == normalize(rest[0])]
            rest = rest[1:]
        elif isinstance(node, Component):
            candidates = [known for known in node.source.names(node.kind) if known != node.choice]
        else:
            continue
        for known in candidates:
            try:
                group = _component_group(node.source, node.kind, known, (), choices)
            except AipError:
                # A plugin that cannot be used owns nothing; choosing it says why.
                continue
            if find(group, ".".join(rest), {}) is not None:
                found.append((node, known))
    return found
