"""Resolution of parameter layers into one complete, checked instance, with the origin of each value."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar, cast

import attrs

from aipcore.errors import AipError, ParamsError
from aipcore.params.declare import NO_CHOICES, Choice, Choices, how_to_choose
from aipcore.params.dump import changed, to_dict
from aipcore.params.files import Layer, Option
from aipcore.params.hints import (
    VALUES,
    no_component,
    not_an_option,
    refuse_commas,
    refuse_foreign,
    split_words,
    unknown,
)
from aipcore.params.names import normalize, one_of
from aipcore.params.secret import from_environment, is_withheld, recorded, refuse_withheld
from aipcore.params.tree import (
    COMPONENT_KEY,
    Component,
    Group,
    Leaf,
    Path,
    build_tree,
    leaves,
    made_of,
    refuse_problems,
    shown,
    walk,
)
from aipcore.params.types import NotAllowedError

T = TypeVar("T")


@attrs.frozen
class Resolved(Generic[T]):
    """Complete parameters.

    Attributes:
        value: parameter instance.
        origins: for each leaf and component, by dotted path, the name of its layer, or "default".
        tree: tree that the instance was made from.
    """

    value: T
    origins: dict[str, str]
    tree: Group


def resolve(root: type[T], layers: Sequence[Layer], choices: Choices = NO_CHOICES) -> Resolved[T]:
    """Make an instance of `root` from its defaults and the layers. Later layers override earlier ones.

    A layer that names a component replaces it together with its options. A value from a layer that `outlasts` is kept
    if both components inherit its field from the same class, such as the `lr` of all schedules.

    Raises:
        ParamsError: an option is unknown or misplaced, a value is not allowed, or required ones are missing.
    """
    tree = fill(root, layers, choices)
    refuse_withheld(tree)
    missing = [leaf for leaf in leaves(tree) if leaf.missing]
    if missing:
        listed = ", ".join(f"--{shown(leaf.path, tree.shorts)} ({leaf.spec.help.rstrip('.')})" for leaf in missing)
        raise ParamsError(f"{'These parameters are' if len(missing) > 1 else 'This parameter is'} required: {listed}.")
    origins = {".".join(node.path): node.origin for node in walk(tree) if not isinstance(node, Group)}
    value = made_of(tree, lambda leaf: leaf.value, lambda group, fields: group.cls(**fields), Choice)
    return Resolved(cast(T, value), origins, tree)


def from_dict(cls: type[T], values: Mapping[str, Any], choices: Choices = NO_CHOICES, origin: str = "values") -> T:
    """Return an instance of `cls` from the output of `to_dict` or from a file, strictly checked.

    Raises:
        ParamsError: see `resolve`.
    """
    return resolve(cls, [Layer.from_mapping(origin, values)], choices).value


def fill(root: type, layers: Sequence[Layer], choices: Choices = NO_CHOICES) -> Group:
    """Return the tree of `root` with the layers applied; required values may still be missing.

    Raises:
        ParamsError: see `resolve`.
    """
    tree = build_tree(root, choices)
    outlasting: set[str] = set()
    for layer in layers:
        apply(tree, layer, outlasting)
        if layer.outlasts:
            outlasting.add(layer.name)
    from_environment(tree)
    refuse_problems(tree)
    return tree


def apply(tree: Group, layer: Layer, outlasting: Collection[str] = ()) -> None:
    """Apply the values of a layer to a tree. The choice of a component precedes its options.

    Args:
        tree: tree to change.
        layer: layer to apply.
        outlasting: origins whose values are kept when the layer chooses another component with the same field.

    Raises:
        ParamsError: see `resolve`.
    """
    _Layer(tree, layer, outlasting).apply()


WHOLE: Final[Any] = object()
"""Key of the value of a whole, such as the name of a component, in the nested mapping of its parts."""


class _Layer:
    """A layer as one nested mapping, during its application to a tree."""

    def __init__(self, tree: Group, layer: Layer, outlasting: Collection[str]) -> None:
        self.tree = tree
        self.layer = layer
        self.outlasting = outlasting
        self.written_short: dict[str, Path] = {}

    def apply(self) -> None:
        values = self._nested(self.layer.values, ())
        for short, long in self.tree.shorts.items():
            if short in values:
                self.written_short[short] = long
                self._merge(values, long, values.pop(short), ())
        self._group(self.tree, values, ())

    def _nested(self, values: Mapping[Any, Any], path: Path) -> dict[Any, Any]:
        """Return values with dotted keys as a new nested mapping."""
        nested: dict[Any, Any] = {}
        for key, value in values.items():
            if key is not WHOLE and not (isinstance(key, str) and (key or any(_options(value)))):
                called = self.layer.called or self.layer.name
                raise ParamsError(f"{called}: the key {key!r} is not a name. Write it as text.")
            steps = (key,) if key is WHOLE else tuple(key.replace("-", "_").split("."))
            self._merge(nested, steps, value, path)
        return nested

    def _merge(self, into: dict[Any, Any], steps: Sequence[Any], value: Any, path: Path) -> None:
        """Insert a value into a nested mapping, and keep existing values of its whole and its parts."""
        first, *inner = steps
        value = _plain_choice(value)
        here = path if first is WHOLE else (*path, first)
        old = into.get(first)
        for step in reversed(inner):
            value = {step: value}
        if isinstance(value, Mapping):
            into[first] = merged = old if isinstance(old, dict) else {WHOLE: old} if first in into else {}
            for key, item in value.items():
                self._merge(merged, (key,), item, here)
        elif isinstance(old, dict):
            self._merge(old, (WHOLE,), value, here)
        elif first in into:
            if isinstance(old, Option) and isinstance(value, Option):
                raise ParamsError(f"{old.written} and {value.written} are the same option. Give it once.")
            raise ParamsError(f"{self._where(value, here)} is given twice. Give it once.")
        else:
            into[first] = value

    def _where(self, value: Any, path: Path) -> str:
        """Return the key of a value as typed by the user."""
        option = next(_options(value), None)
        called = self.layer.called or self.layer.name
        return f"{called}: {shown(path, self.written_short)}" if option is None else option.written

    def _group(self, group: Group, values: Any, path: Path) -> None:
        whole = values.get(WHOLE) if isinstance(values, Mapping) else values
        if isinstance(whole, Option):
            raise not_an_option(whole, group, self.tree)
        if not isinstance(values, Mapping) or WHOLE in values:
            raise ParamsError(
                f"{self._where(None, path)}: {whole!r} is not allowed. It must be a mapping of parameters."
            )
        # Unknown keys come last: their component may be chosen in the same layer.
        nested = sorted(self._nested(values, path).items(), key=lambda item: group.child(item[0]) is None)
        self._refuse_two_names(group, nested, path)
        for key, value in nested:
            child, here = group.child(key), (*path, key)
            match child:
                case None:
                    raise self._unknown(value, here, group)
                case Leaf():
                    self._leaf(child, value, here)
                case Group():
                    self._group(child, value, here)
                case Component():
                    self._component(child, value, here)
        self._replace(group, {group.aliases.get(key, key) for key, _ in nested})

    def _replace(self, group: Group, given: Collection[str]) -> None:
        """Set the fields to None that the given ones replace."""
        for name in given:
            leaf = group.children.get(name)
            if isinstance(leaf, Leaf) and leaf.value is not None:
                for other in leaf.spec.replaces:
                    replaced = group.children[other]
                    if other not in given and isinstance(replaced, Leaf):
                        replaced.value, replaced.origin = None, self.layer.name

    def _refuse_two_names(self, group: Group, values: Sequence[tuple[str, Any]], path: Path) -> None:
        """Refuse a parameter that is given by its name and by an alias."""
        found: dict[str, str] = {}
        for key, value in values:
            name, where = group.aliases.get(key, key), self._where(value, (*path, key))
            if name in found:
                raise ParamsError(f"{found[name]} and {where} are the same option: give it once.")
            found[name] = where

    def _unknown(self, value: Any, path: Path, group: Group) -> AipError:
        option = next(_options(value), None)
        if option is None:
            known = [*group.children, *(() if group.path else self.tree.shorts)]
            return unknown(shown(path, self.written_short), self._where(value, path), self.tree, siblings=known)
        # It may belong to a default that cannot be used. That error is then the relevant one.
        refuse_problems(self.tree)
        return unknown(option.name, option.written, self.tree, option=option)

    def _leaf(self, leaf: Leaf, value: Any, path: Path) -> None:
        if isinstance(value, Option):
            written = value.written
            if not value.words and not value.closed and not leaf.type.is_flag:
                end = "" if leaf.type.metavar.endswith("...") else "."
                raise ParamsError(f"{written} needs a value: {written} {leaf.type.metavar}{end}")
            words = ("",) if value.closed and not value.words and leaf.type.form == "one" else value.words
            refuse_commas(leaf, value, words)
            given = " ".join(words) or "an empty value"
            self._set(leaf, given, given, written, lambda: leaf.type.from_words(words))
            return
        if isinstance(value, Mapping):
            for option in _options({key: item for key, item in value.items() if key is not WHOLE}):
                raise unknown(option.name, option.written, self.tree, option=option)
            if WHOLE in value:
                part = self._where(value, (*path, next(key for key in value if key is not WHOLE)))
                raise ParamsError(f"{part} is part of a value that is also given as a whole. Add it to that value.")
        item = value if leaf.spec.convert is None else leaf.spec.convert(value)
        before = leaf.value, leaf.origin
        self._set(leaf, value, repr(value), self._where(value, path), lambda: leaf.type.from_plain(item))
        if self.layer.repeats and leaf.value == before[0]:
            leaf.origin = before[1]

    def _set(self, leaf: Leaf, plain: Any, given: str, where: str, convert: Callable[[], Any]) -> None:
        check = leaf.spec.check
        leaf.withheld = is_withheld(leaf.spec, plain)
        if leaf.withheld:
            leaf.value, leaf.origin = plain, self.layer.name
            return
        given = str(recorded(leaf.spec, given))
        try:
            value = convert()
        except NotAllowedError:
            # A field with a conversion accepts more than its type, and its check describes all of it.
            words = [] if check and leaf.spec.convert else [leaf.type.words]
            allowed = ", ".join([*words, *([check.allowed] if check else [])])
            raise ParamsError(f"{where}: {given} is not allowed. It must be {allowed}.") from None
        if check is not None and not check.accepts(value):
            raise ParamsError(f"{where}: {given} is not allowed. It must be {check.allowed}.")
        leaf.value, leaf.origin = value, self.layer.name

    def _component(self, node: Component, value: Any, path: Path) -> None:
        value = _plain_choice(value)
        options = self._nested(value if isinstance(value, Mapping) else {WHOLE: value}, path)
        if COMPONENT_KEY in options:
            self._merge(options, (WHOLE,), options.pop(COMPONENT_KEY), path)
        where = self._where(options, path)
        if WHOLE in options or (node.several and not node.spec.repeat and not any(_options(options))):
            given = options.pop(WHOLE, [])
            where = given.written if isinstance(given, Option) else where
            given = _converted(node, given, where)
            if isinstance(given, Option):
                names = _names_in_words(node, given)
            elif node.several:
                names = self._names_in_list(node, given, options, path, where)
            else:
                names = _name_in(node, given, where)
            self._choose(node, names, where, as_it_is=isinstance(given, Option))
        if not node.several and node.chosen:
            self._group(next(iter(node.chosen.values())), options, path)
            return
        # One component may be spelled in several ways.
        written: dict[str, str] = {}
        for name in list(options):
            group = node.child(name) if node.several else None
            if not isinstance(group, Group):
                raise self._without_component(node, options[name], (*path, name))
            if (first := written.setdefault(group.path[-1], name)) != name:
                self._merge(options, (first,), options.pop(name), path)
        for known, name in written.items():
            self._group(node.chosen[known], options[name], (*path, name))

    def _without_component(self, node: Component, value: Any, path: Path) -> AipError:
        refuse_problems(node)
        if node.spec.repeat:
            return ParamsError(f"{self._where(value, path)}: {no_component(node, path[-1], self.tree)}")
        if any(_options(value)):
            return self._unknown(value, path, self.tree)
        where = self._where(value, path[:-1])
        return ParamsError(f"{where} has options but no {COMPONENT_KEY}. Add the key {COMPONENT_KEY}.")

    def _names_in_list(self, node: Component, given: Any, options: dict[Any, Any], path: Path, where: str) -> list[str]:
        """Return the names of several components. Options given in the list are merged into `options`."""
        if not isinstance(given, list | tuple):
            raise ParamsError(f"{where}: {given!r} is not allowed. It must be a list of components.")
        names = []
        for number, entry in enumerate(map(_plain_choice, given), 1):
            inner = dict(entry) if isinstance(entry, Mapping) else {COMPONENT_KEY: entry}
            name = inner.pop(COMPONENT_KEY, None)
            if not isinstance(name, str):
                form = f"{{{COMPONENT_KEY}: NAME, OPTION: VALUE}}"
                unnamed = f"entry {number} has no {COMPONENT_KEY}. Write NAME or {form}."
                raise ParamsError(f"{where}: {_not_a_choice(node, entry) or unnamed}")
            names.append(name)
            self._merge(options, (node.key(number, name),), inner, path)
        if node.spec.repeat:
            return names
        listed = {normalize(name) for name in names}
        options.update({name: {} for name, inner in options.items() if inner is None})
        return names + [name for name in options if normalize(name) not in listed]

    def _choose(self, node: Component, names: Sequence[str], where: str, *, as_it_is: bool) -> None:
        for name in names:
            refuse_foreign(node, where, name)
        try:
            node.choose(names, self.layer.name, self.outlasting)
        except AipError as error:
            if as_it_is:
                raise
            raise ParamsError(f"{where}: {error}") from error


def _options(value: Any) -> Iterator[Option]:
    """Yield the command-line values in a nested mapping."""
    if isinstance(value, Option):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _options(item)


def _plain_choice(value: Any) -> Any:
    """Return a choice made in Python in the form of a file."""
    return {COMPONENT_KEY: value.name, **to_dict(value.params, reveal=True)} if isinstance(value, Choice) else value


def _converted(node: Component, given: Any, where: str) -> Any:
    """Return another form of the value of a component field as a list; all other values unchanged."""
    text = " ".join(given.words) if isinstance(given, Option) else given
    try:
        value = text if node.spec.convert is None else node.spec.convert(text)
    except AipError as error:
        raise ParamsError(f"{where}: {error}") from error
    if value is text:
        return given
    # Options of the same layer can set the parameters that the text leaves out.
    return [{COMPONENT_KEY: each.name, **changed(each.params)} if isinstance(each, Choice) else each for each in value]


def _names_in_words(node: Component, option: Option) -> list[str]:
    words, names = list(option.words), one_of(node.names)
    if (node.optional or node.several) and [word.casefold() for word in words] == ["none"]:
        return []
    if not node.several:
        if len(words) != 1:
            given = " ".join(words) or "an empty value"
            raise ParamsError(f"{option.written}: {given} is not allowed. It must be one of {names}.")
        return words
    if not words and not option.closed:
        raise ParamsError(f"{option.written} needs names. Write none, or one or more of {names}.")
    if (split := split_words(words, lambda parts: any("," in word for word in words))) is not None:
        raise ParamsError(f"{option.written}: separate names with spaces: {option.written} {' '.join(split)}.")
    return words


def _name_in(node: Component, given: Any, where: str) -> list[str]:
    if isinstance(given, str) or (given is None and node.optional):
        return [] if given is None else [given]
    if isinstance(given, int | float) and node.kind in VALUES:
        raise ParamsError(f"{where}: {given!r} is not the name of a {node.kind}. Set {VALUES[node.kind]}.")
    wrong = f"{given!r} is not allowed. It must be one of {one_of(node.names)}."
    raise ParamsError(f"{where}: {_not_a_choice(node, given) or wrong}")


def _not_a_choice(node: Component, given: Any) -> str:
    """Return the sentence for parameters without a name; empty for other values."""
    if not attrs.has(type(given)):
        return ""
    names = node.spec.choices if isinstance(node.spec.choices, Mapping) else {}
    return f"{type(given).__name__} is not a Choice. Write {how_to_choose(given, names)}."
