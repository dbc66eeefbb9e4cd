"""The fields of a parameter class, cached after the first check."""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import attrs

from aipcore.errors import ParamsError
from aipcore.params.declare import METADATA_KEY, REQUIRED, FieldSpec, require_decorated, spec_of
from aipcore.params.types import LeafType, NotAllowedError, leaf_type, type_name


@attrs.frozen(kw_only=True)
class Field:
    """A field of a parameter class.

    Attributes:
        name: attribute name.
        spec: declared metadata.
        default: the value of a leaf, the class of a group, the `Choice` of a component or a tuple of them.
        type: type of a leaf.
    """

    name: str
    spec: FieldSpec
    default: Any
    type: LeafType | None = None


_READ: WeakKeyDictionary[type, tuple[Field, ...]] = WeakKeyDictionary()


def fields_of(cls: type) -> tuple[Field, ...]:
    """Return the fields in the order of their first declaration.

    Raises:
        ParamsError: `cls` is not a parameter class, or a field has no type, a type that options do not support, or a
            default that is not allowed.
    """
    if cls not in _READ:
        _READ[cls] = tuple(_read(cls))
    return _READ[cls]


def _read(cls: type) -> Iterator[Field]:
    require_decorated(cls)
    if not attrs.has(cls):
        raise ParamsError(f"{cls.__name__} is not a parameter class. Decorate it with @params.")
    attributes = attrs.fields_dict(cls)
    # A redeclared field keeps its place.
    bases = [base for base in reversed(cls.__mro__) if attrs.has(base)]
    aliased: dict[str, str] = {}
    for name in dict.fromkeys(attribute.name for base in bases for attribute in attrs.fields(base)):
        attribute = attributes[name]
        if METADATA_KEY not in attribute.metadata:
            raise ParamsError(f"{cls.__name__}.{name} is not declared. Use field(), group() or component().")
        spec = spec_of(attribute)
        for alias in spec.aliases:
            if alias in attributes or aliased.setdefault(alias, name) != name or not alias.isidentifier():
                raise ParamsError(
                    f"{cls.__name__}.{name} cannot have the alias {alias!r}. Choose an unused name of letters, digits "
                    "and _."
                )
        if unknown := [other for other in spec.replaces if other not in attributes]:
            raise ParamsError(f"{cls.__name__}.{name} replaces {unknown[0]!r}, which is not a field of the class.")
        default: Any = attribute.default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            default = default.factory if spec.kind == "group" else default.factory()
        if spec.kind != "value":
            yield Field(name=name, spec=spec, default=default)
            continue
        where = f"{cls.__name__}.{name}"
        leaf = leaf_type(_annotation(cls, name), where)
        if spec.secret and (leaf.form != "one" or leaf.items != (str,)):
            raise ParamsError(f"{where} is declared as a secret, so its type must be str or str | None.")
        yield Field(name=name, spec=spec, default=_checked(default, spec, leaf, where), type=leaf)


def _annotation(cls: type, name: str) -> Any:
    """Return the type of one field. Other fields may use classes that only type checkers import."""
    for base in cls.__mro__:
        written = vars(base).get("__annotations__", {})
        if name not in written:
            continue
        scope = vars(sys.modules[base.__module__]) if base.__module__ in sys.modules else {}
        holder = types.SimpleNamespace(__annotations__={name: written[name]})
        try:
            return typing.get_type_hints(holder, scope, dict(vars(base)))[name]
        except (NameError, AttributeError, TypeError, SyntaxError) as error:
            raise ParamsError(
                f"The type of {cls.__name__}.{name}, {written[name]}, cannot be resolved ({error}). "
                f"Import it at the top of {base.__module__}."
            ) from error
    raise ParamsError(f"{cls.__name__}.{name} has no type. Annotate it.")


def _checked(default: Any, spec: FieldSpec, leaf: LeafType, where: str) -> Any:
    if default is REQUIRED:
        return default
    wrong = f"The default of {where}, {default!r}, is not allowed. It must be"
    try:
        value = leaf.from_plain(default)
    except NotAllowedError:
        raise ParamsError(f"{wrong} {leaf.words} ({type_name(leaf.annotation)}).") from None
    # Files may give text for a path and a list for a tuple, but a Python instance would keep these types.
    if type(value) is not type(default) and not (type(value), type(default)) == (float, int):
        raise ParamsError(f"{wrong} of the type {type_name(leaf.annotation)}.")
    if spec.check is not None and not spec.check.accepts(value):
        raise ParamsError(f"{wrong} {spec.check.allowed}.")
    return value
