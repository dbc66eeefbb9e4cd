"""From layers of values to one complete, checked instance, and where each of its values came from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast

import attrs

from aipcore.errors import AipError, ParamsError
from aipcore.params.declare import NO_CHOICES, Choices
from aipcore.params.files import Layer, Option
from aipcore.params.hints import (
    VALUES,
    all_names,
    meant_option,
    meant_words,
    of_tfaip,
    refuse_commas,
    refuse_foreign,
    split_words,
    unknown_option,
)
from aipcore.params.names import nearest, one_of
from aipcore.params.secret import from_environment, is_withheld, recorded, refuse_withheld
from aipcore.params.tree import (
    COMPONENT_KEY,
    Component,
    Components,
    Group,
    Leaf,
    Node,
    build_tree,
    find,
    leaves,
    owners,
    parts,
    refuse_problems,
    short_paths,
    shown,
)
from aipcore.params.types import NotAllowedError

T = TypeVar("T")


@attrs.frozen
class Resolved(Generic[T]):
    """Complete parameters.

    Attributes:
        value: the instance.
        origins: for each leaf and each component, by dotted path, the name of the layer that gave it, or "default".
        tree: the tree it was made from.
    """

    value: T
    origins: dict[str, str]
    tree: Group


def resolve(root: type[T], layers: Sequence[Layer], choices: Choices = NO_CHOICES) -> Resolved[T]:
    """Makes an instance of `root` from its defaults and the layers, later ones winning over earlier ones.

    A layer that names a component replaces it together with its options. A value that a layer which `outlasts` gave to
    one of them stays, if both components have that field from a class in common, such as the `lr` of all schedules.

    Raises:
        ParamsError: an option is unknown or misplaced, a value is not allowed, or required ones are missing.
    """
    tree = fill(root, layers, choices)
    refuse_withheld(tree, short_paths(tree))
    missing = [leaf for leaf in leaves(tree) if leaf.missing]
    if missing:
        shorts = short_paths(tree)
        listed = ", ".join(f"--{shown(leaf.path, shorts)} ({leaf.spec.help.rstrip('.')})" for leaf in missing)
        raise ParamsError(f"{'These parameters are' if len(missing) > 1 else 'This parameter is'} required: {listed}.")
    origins: dict[str, str] = {}
    _collect_origins(tree, origins)
    return Resolved(cast(T, make(tree)), origins, tree)


def from_dict(cls: type[T], values: Mapping[str, Any], choices: Choices = NO_CHOICES, origin: str = "values") -> T:
    """An instance of `cls` from what `to_dict` or a file gave, strictly.

    Raises:
        ParamsError: see `resolve`.
    """
    return resolve(cls, [Layer.from_mapping(origin, values)], choices).value


def fill(root: type, layers: Sequence[Layer], choices: Choices = NO_CHOICES) -> Group:
    """The tree of `root` with the layers applied; required values may still be missing.

    Raises:
        ParamsError: see `resolve`.
    """
    tree = build_tree(root, choices)
    shorts = short_paths(tree)
    outlasting: set[str] = set()
    for layer in layers:
        if layer.values:
            _Mapping(layer, tree, shorts, choices, outlasting).apply()
        if layer.options:
            _apply_options(layer, tree, shorts, choices, outlasting)
        if layer.outlasts:
            outlasting.add(layer.name)
    from_environment(tree, shorts)
    refuse_problems(tree)
    return tree


def make(node: Node) -> Any:
    """The instance that a filled node stands for."""
    match node:
        case Leaf():
            return node.value
        case Group():
            return node.cls(**{name: make(child) for name, child in node.children.items()})
        case Component():
            return None if node.group is None else make(node.group)
        case Components():
            return tuple(make(group) for group in node.groups.values())


def _collect_origins(node: Node, origins: dict[str, str]) -> None:
    if not isinstance(node, Group):
        origins[".".join(node.path)] = node.origin
    for below in parts(node):
        _collect_origins(below, origins)


def _set(leaf: Leaf, convert: Callable[[], Any], origin: str, where: str, given: str, plain: Any) -> None:
    check = leaf.spec.check
    leaf.withheld = is_withheld(leaf.spec, plain)
    if leaf.withheld:
        leaf.value, leaf.origin = plain, origin
        return
    given = str(recorded(leaf.spec, given))
    try:
        value = convert()
    except NotAllowedError:
        limit = f", {check.allowed}" if check else ""
        raise ParamsError(f"{where}: {given} is not allowed, it must be {leaf.type.words}{limit}.") from None
    if check is not None and not _passes(leaf, value):
        raise ParamsError(f"{where}: {given} is not allowed, it must be {check.allowed}.")
    leaf.value, leaf.origin = value, origin


def _passes(leaf: Leaf, value: Any) -> bool:
    assert leaf.spec.check is not None
    return leaf.spec.check.accepts(value)


def _apply_options(
    layer: Layer, tree: Group, shorts: Mapping[str, tuple[str, ...]], choices: Choices, outlasting: Collection[str]
) -> None:
    pending = list(layer.options)
    given_for: dict[tuple[str, ...], Option] = {}

    def once(option: Option, node: Node) -> None:
        # The short and the long form, or two spellings of a component, are the same option.
        other = given_for.setdefault(node.path, option)
        if other is not option:
            raise ParamsError(f"{other.written} and {option.written} are the same option: give it once.")

    # Choices come first, outer ones before inner ones, since they decide which other options exist.
    while True:
        found = [(option, find(tree, option.name, shorts)) for option in pending]
        chosen = [(option, node) for option, node in found if isinstance(node, Component | Components)]
        if not chosen:
            break
        option, node = min(chosen, key=lambda pair: len(pair[1].path))
        once(option, node)
        _choose(option, node, layer.name, choices, outlasting)
        pending.remove(option)
    for option in pending:
        node_found = find(tree, option.name, shorts)
        if isinstance(node_found, Leaf):
            leaf = node_found
            once(option, leaf)
            if not option.words and not option.closed and not leaf.type.is_flag:
                raise ParamsError(f"{option.written} needs a value: {option.written} {leaf.type.metavar}.")
            words = ("",) if option.closed and not option.words and leaf.type.form == "one" else option.words
            given = " ".join(words) or "nothing"
            refuse_commas(leaf, option, words)
            _set(leaf, lambda: leaf.type.from_words(words), layer.name, option.written, given, given)  # noqa: B023 - used at once
        elif isinstance(node_found, Group):
            if (meant := meant_option(option.name)) is not None and isinstance(find(tree, meant, shorts), Leaf):
                raise ParamsError(meant_words(option, meant, "is a group of options"))
            inside = [f"--{shown(leaf.path, shorts)}" for leaf in leaves(node_found)]
            some = ", ".join(inside[:3]) + (" and others; --help lists them" if len(inside) > 3 else "")
            raise ParamsError(f"{option.written} is a group of options, not an option: it has {some or 'none'}.")
        else:
            # It may be an option of a default that cannot be used, which is then what there is to say.
            refuse_problems(tree)
            raise unknown_option(option, tree, shorts, choices)


def _choose(
    option: Option, node: Component | Components, origin: str, choices: Choices, outlasting: Collection[str]
) -> None:
    names = one_of(node.source.names(node.kind))
    if isinstance(node, Components):
        if not option.words and not option.closed:
            raise ParamsError(f"{option.written} needs names: give one or more of {names}.")
        if (split := split_words(option.words, lambda parts: any("," in word for word in option.words))) is not None:
            raise ParamsError(f"{option.written}: separate names by blanks: {option.written} {' '.join(split)}.")
        for word in option.words:
            refuse_foreign(node, option.written, word)
        node.choose(option.words, origin, choices, outlasting)
        return
    if len(option.words) != 1:
        given = " ".join(option.words) or "nothing"
        raise ParamsError(f"{option.written}: {given} is not allowed, it must be one of {names}.")
    none = node.optional and option.words[0].casefold() == "none"
    if not none:
        refuse_foreign(node, option.written, option.words[0])
    node.choose(None if none else option.words[0], origin, choices, outlasting)


def _copy(value: Any) -> Any:
    # What is merged into a mapping must not change the layer's own.
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, Mapping) else value


class _Mapping:
    """Applies one layer of nested values."""

    def __init__(
        self,
        layer: Layer,
        tree: Group,
        shorts: Mapping[str, tuple[str, ...]],
        choices: Choices,
        outlasting: Collection[str],
    ) -> None:
        self.outlasting = outlasting
        self.layer = layer
        self.tree = tree
        self.shorts = shorts
        self.choices = choices
        self.written: dict[tuple[str, ...], str] = {}

    def apply(self) -> None:
        """Applies everything, choices before their options."""
        values = self._nested(self.layer.values)
        for short, long in self.shorts.items():
            if short in values:
                self.written[long] = short
                self._merge(values, long, values.pop(short))
        self._group(self.tree, values, ())

    def _where(self, path: tuple[str, ...]) -> str:
        return f"{self.layer.name}: {self._as_written(path)}"

    def _as_written(self, path: tuple[str, ...]) -> str:
        return shown(path, {short: long for long, short in self.written.items()})

    def _nested(self, values: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[str, Any]:
        nested: dict[str, Any] = {}
        for key, value in values.items():
            if not isinstance(key, str) or not key:
                raise ParamsError(f"{self.layer.name}: the key {key!r} is not a name; write it as text.")
            steps = tuple(key.replace("-", "_").split("."))
            self._merge(nested, steps, _copy(value), path)
        return nested

    def _merge(self, into: dict[str, Any], steps: tuple[str, ...], value: Any, path: tuple[str, ...] = ()) -> None:
        *outer, last = steps
        for step in outer:
            inner = into.get(step, {})
            if isinstance(inner, str):
                inner = {COMPONENT_KEY: inner}
            if isinstance(inner, list | tuple) and all(isinstance(each, str) for each in inner):
                inner = {each: {} for each in inner}
            if not isinstance(inner, dict):
                raise ParamsError(
                    f"{self._where((*path, *steps))} is part of a value that is also given whole: put it in there."
                )
            into[step] = inner
            into = inner
        old = into.get(last)
        if last not in into:
            into[last] = value
        elif isinstance(old, dict) and isinstance(value, str) and COMPONENT_KEY not in old:
            into[last] = {COMPONENT_KEY: value, **old}
        elif isinstance(old, dict) and isinstance(value, Mapping):
            for key, item in value.items():
                self._merge(old, (key,), item, (*path, *steps))
        elif isinstance(old, dict) and isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
            into[last] = {**{each: {} for each in value}, **old}
        else:
            raise ParamsError(f"{self._where((*path, *steps))} is given twice: give it once.")

    def _group(self, group: Group, values: Any, path: tuple[str, ...]) -> None:
        if not isinstance(values, Mapping):
            raise ParamsError(f"{self._where(path)}: {values!r} is not allowed, it must be a mapping of parameters.")
        for key, value in self._nested(values, path).items():
            child = group.child(key)
            here = (*path, key)
            match child:
                case None:
                    raise self._unknown(group, key, path)
                case Leaf():
                    leaf = child
                    item = value if leaf.spec.convert is None else leaf.spec.convert(value)
                    before = leaf.value, leaf.origin
                    _set(
                        leaf,
                        lambda: leaf.type.from_plain(item),  # noqa: B023 - used at once
                        self.layer.name,
                        self._where(here),
                        repr(value),
                        value,
                    )
                    if self.layer.repeats and leaf.value == before[0]:
                        leaf.origin = before[1]
                case Group():
                    self._group(child, value, here)
                case Component():
                    self._component(child, value, here)
                case Components():
                    self._components(child, value, here)

    def _component(self, node: Component, value: Any, path: tuple[str, ...]) -> None:
        options: dict[str, Any] = {}
        if isinstance(value, Mapping):
            options = self._nested(value, path)
            if COMPONENT_KEY in options:
                self._named(node, options.pop(COMPONENT_KEY), path)
        else:
            self._named(node, value, path)
        if options and node.group is None:
            # It may be an option of a default that cannot be used, which is then what there is to say.
            refuse_problems(node)
            raise ParamsError(f"{self._where(path)} has options but no {COMPONENT_KEY}: name the component.")
        if node.group is not None:
            self._group(node.group, options, path)

    def _named(self, node: Component, name: Any, path: tuple[str, ...]) -> None:
        if isinstance(name, int | float) and node.kind in VALUES:
            raise ParamsError(
                f"{self._where(path)}: {name!r} is not the name of a {node.kind}. Give {VALUES[node.kind]}."
            )
        if isinstance(name, str):
            refuse_foreign(node, self._where(path), name)
        if not isinstance(name, str) and not (name is None and node.optional):
            names = one_of(node.source.names(node.kind))
            raise ParamsError(f"{self._where(path)}: {name!r} is not allowed, it must be one of {names}.")
        try:
            node.choose(name, self.layer.name, self.choices, self.outlasting)
        except AipError as error:
            raise ParamsError(f"{self._where(path)}: {error}") from error

    def _components(self, node: Components, value: Any, path: tuple[str, ...]) -> None:
        entries: list[tuple[str, Any]] = []
        if isinstance(value, Mapping):
            entries = [(name, {} if options is None else options) for name, options in value.items()]
        elif isinstance(value, list | tuple):
            for entry in value:
                options = dict(entry) if isinstance(entry, Mapping) else {COMPONENT_KEY: entry}
                name = options.pop(COMPONENT_KEY, None)
                if not isinstance(name, str):
                    raise ParamsError(f"{self._where(path)}: {entry!r} has no {COMPONENT_KEY}: name the component.")
                entries.append((name, options))
        else:
            raise ParamsError(f"{self._where(path)}: {value!r} is not allowed, it must be a list of components.")
        for name, _ in entries:
            refuse_foreign(node, self._where(path), name)
        try:
            node.choose([name for name, _ in entries], self.layer.name, self.choices, self.outlasting)
        except AipError as error:
            raise ParamsError(f"{self._where(path)}: {error}") from error
        for name, options in entries:
            group = node.group(name)
            assert group is not None
            self._group(group, options, (*path, name))

    def _unknown(self, group: Group, key: str, path: tuple[str, ...]) -> ParamsError:
        dotted = self._as_written((*path, key))
        elsewhere = owners(self.tree, dotted, self.shorts, self.choices)
        if elsewhere:
            node, _ = elsewhere[0]
            names = [name for owner, name in elsewhere if owner is node]
            return ParamsError(
                f"{self.layer.name}: {dotted} belongs to {one_of(names)}, but {self._as_written(node.path)} is "
                f"{(isinstance(node, Component) and node.choice) or 'none'}: name {names[0]} there, or leave it out."
            )
        meant = meant_option(dotted)
        if meant is not None and isinstance(find(self.tree, meant, self.shorts), Leaf):
            return ParamsError(f"{self._where((*path, key))} is unknown; did you mean {meant}?")
        if (hint := of_tfaip(dotted)) is not None:
            return ParamsError(f"{self._where((*path, key))} is unknown. {hint}")
        known = list(group.children) + ([] if path else list(self.shorts))
        near = nearest(key, known) or nearest(dotted, all_names(self.tree, self.shorts))
        if not near and not known:
            return ParamsError(f"{self._where((*path, key))} is unknown. {self._as_written(path)} has no parameters.")
        hint = f"did you mean {one_of(near)}?" if near else f"there are {one_of(known)}."
        return ParamsError(f"{self._where((*path, key))} is unknown; {hint}")
