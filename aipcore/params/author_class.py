"""Checks of the names and method signatures of an author's subclass of an aip class, such as `Scenario`.

aip calls an author's methods by name. A method with another name would be ignored silently.
"""

from __future__ import annotations

import dis
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import CodeType, FunctionType, MappingProxyType
from typing import Any

from aipcore.errors import ScenarioError, defined_at
from aipcore.params.names import nearest, normalize, one_of

INSIDE = ("__func__", "fget", "func", "__wrapped__")
"""Attributes in which class methods, properties, cached properties and decorators store the wrapped function."""

LIKE = 0.8
"""Minimum similarity, from 0 to 1, at which a name is considered a misspelling of one of aip's."""


def check_author_class(
    cls: type, ways: Mapping[str, str], further: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> None:
    """Compare the public names of an author's class with those of its base class in aip.

    A name belongs to the author if it begins with `_`, or if the class or its module uses it as `self.NAME` or
    `scenario.NAME`.

    Args:
        cls: author's class.
        ways: from normalized foreign names to their equivalent in aip.
        further: by method, positional arguments that aip passes to it after those of the base class.

    Raises:
        ScenarioError: a name is in `ways` or similar to one of aip's, or a method has an incompatible signature.
    """
    known = _known(cls)
    for name, value in _own(cls):
        if name in known:
            _check_kind(cls, name, value, known[name], further.get(name, ()))
    hints = []
    for name, value in unused_names(cls):
        if isinstance(value, type) and value.__name__ == name:
            continue  # A class defined inside the author's class.
        near = nearest(name, known, most=2, least=LIKE)
        hint = ways.get(normalize(name)) or (near and f"Did you mean {one_of(near)}?")
        if hint:
            hints.append((_shown(name, value), hint))
    if hints:
        (first, hint), *others = hints
        rest = "".join(f" {shown}: {way}" for shown, way in others)
        raise ScenarioError(f"{cls.__name__} defines {first}, which aip does not use. {hint}{rest}")


def unused_names(cls: type) -> list[tuple[str, Any]]:
    """Return the public names that are unknown to aip and unused in the author's code, with their values."""
    known = _known(cls)
    own = {name: value for name, value in _own(cls) if name not in known}
    if not own:
        return []
    used = _names_used(cls)
    return [(name, value) for name, value in own.items() if name not in used]


def describe_unused(cls: type) -> str:
    """Return a list of the methods and attributes from `unused_names` as text; empty if there are none."""
    unused = [(name, value) for name, value in unused_names(cls) if not isinstance(value, type) and not name.isupper()]
    return ", ".join(_shown(name, value) for name, value in unused)


def _shown(name: str, value: Any) -> str:
    return f"{name}()" if callable(_function(value)) and not isinstance(value, type) else name


def _of_aip(cls: type) -> bool:
    return cls is object or cls.__module__.partition(".")[0] == "aipcore"


def _known(cls: type) -> dict[str, Any]:
    """Return the public names of the base classes in aip, with their values."""
    bases = [base for base in reversed(cls.__mro__) if _of_aip(base)]
    return {name: value for base in bases for name, value in vars(base).items() if not name.startswith("_")}


def _own(cls: type) -> Iterator[tuple[str, Any]]:
    for base in cls.__mro__:
        if not _of_aip(base):
            yield from ((name, value) for name, value in list(vars(base).items()) if not name.startswith("_"))


def _check_kind(cls: type, name: str, value: Any, base: Any, further: Sequence[str]) -> None:
    if not isinstance(base, FunctionType):
        if isinstance(value, FunctionType):
            raise ScenarioError(f"{cls.__name__}.{name} is a method. Make it an attribute: {name} = ...")
        return
    given = value.__func__ if isinstance(value, staticmethod | classmethod) else value
    if not callable(given):
        raise ScenarioError(f"{cls.__name__}.{name} is a {type(value).__name__}. Make it a method: def {name}(...).")
    wanted = list(inspect.signature(base).parameters.values())[isinstance(value, staticmethod) :]
    positional = [*(each.name for each in wanted if each.kind is not each.KEYWORD_ONLY), *further]
    keywords = {each.name: None for each in wanted if each.kind is each.KEYWORD_ONLY}
    try:
        inspect.signature(given).bind(*positional, **keywords)
    except TypeError:
        takes = ", ".join(inspect.signature(given).parameters)
        call = ", ".join(dict.fromkeys([*positional, *(["*", *keywords] if keywords else [])]))
        raise ScenarioError(
            f"{cls.__name__}.{name}({takes}) does not accept the arguments of aip ({defined_at(given)}). Write "
            f"def {name}({call})."
        ) from None
    except ValueError:
        # A callable without a signature.
        return


def _function(value: Any) -> Any:
    """Return the function inside a class method or decorator; None for a property."""
    for name in INSIDE:
        if isinstance(inner := getattr(value, name, None), FunctionType):
            return None if name in ("fget", "func") else inner
    return value


def _names_used(cls: type) -> set[str]:
    """Return the names that the author's classes use on themselves, and that their modules use on a scenario."""
    names: set[str] = set()
    for base in cls.__mro__:
        if _of_aip(base):
            continue
        module = vars(sys.modules[base.__module__]) if base.__module__ in sys.modules else {}
        beside = [each for each in list(module.values()) if getattr(each, "__module__", None) == base.__module__]
        for code in _codes(base):
            names.update(_attributes_read(code, ("self", "cls", "scenario")))
        for each in beside:
            for code in _codes(each):
                names.update(_attributes_read(code, ("scenario",)))
    return names


def _codes(value: Any) -> Iterator[CodeType]:
    """Yield the code objects of a function or of all methods of a class, nested ones included."""
    if isinstance(value, type):
        for member in list(vars(value).values()):
            if not isinstance(member, type):
                yield from _codes(member)
        return
    for inner in (value, *(getattr(value, name, None) for name in INSIDE)):
        if isinstance(inner, FunctionType):
            yield from _nested(inner.__code__)


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _attributes_read(code: CodeType, owners: tuple[str, ...]) -> Iterator[str]:
    """Yield the attributes that code accesses on variables or attributes with these names, or on `super()`."""
    previous: Any = None
    for step in dis.get_instructions(code):
        if "ATTR" in step.opname or step.opname == "LOAD_METHOD":
            last = previous[-1] if isinstance(previous, tuple) else previous
            if last in owners or step.opname == "LOAD_SUPER_ATTR":
                yield str(step.argval)
        previous = step.argval
