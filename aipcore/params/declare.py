"""Declarations of typed parameters: the functions and classes for parameter classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, Literal, Protocol, TypeVar, cast, dataclass_transform

import attrs

from aipcore.errors import ParamsError
from aipcore.params.checks import Check
from aipcore.params.names import nearest, normalize, one_of


class Choices(Protocol):
    """Registry of the components of each plugin kind. Names are compared by `normalize`."""

    def names(self, kind: str) -> Sequence[str]:
        """Return the available names, as displayed."""

    def canonical(self, kind: str, name: str) -> str:
        """Return the displayed form of a name. Unknown names raise `AipError` with similar ones."""

    def params_class(self, kind: str, name: str) -> type:
        """Return the parameter class of a component."""

    def summary(self, kind: str, name: str) -> str:
        """Return one sentence that describes a component."""


class StaticChoices:
    """Components from mappings: kind to name to parameter class."""

    def __init__(self, kinds: Mapping[str, Mapping[str, type]]) -> None:
        self._kinds = kinds

    def names(self, kind: str) -> Sequence[str]:
        """See `Choices`."""
        return list(self._kinds.get(kind, {}))

    def canonical(self, kind: str, name: str) -> str:
        """See `Choices`."""
        names = self.names(kind)
        for known in names:
            if normalize(known) == normalize(name):
                return known
        near = nearest(name, names)
        hint = f"did you mean {one_of(near)}?" if near else f"available: {', '.join(names) or 'none'}."
        raise ParamsError(f"There is no {kind} {name!r}; {hint}")

    def params_class(self, kind: str, name: str) -> type:
        """See `Choices`."""
        return self._kinds[kind][self.canonical(kind, name)]

    def summary(self, kind: str, name: str) -> str:
        """Return the first line of the class's docstring; see `Choices`."""
        lines = (self.params_class(kind, name).__doc__ or "").strip().splitlines()
        return lines[0] if lines else ""


NO_CHOICES = StaticChoices({})
"""Choices for parameter classes without plugin components."""


T = TypeVar("T")
P_co = TypeVar("P_co", covariant=True)


@attrs.frozen
class Choice(Generic[P_co]):
    """The value of a field declared by `component`. A field declared by `components` has a tuple of them.

    Attributes:
        name: displayed name of the component.
        params: instance of its parameter class.
    """

    name: str
    params: P_co


class _Required:
    """The type of `REQUIRED`."""

    def __repr__(self) -> str:
        return "REQUIRED"

    def __bool__(self) -> bool:
        return False


REQUIRED: Final = _Required()
"""Default of a required field. Missing values are reported before any heavy import."""

METADATA_KEY: Final = "aip"

SECRET: Final = "***"
"""Replacement of a secret in every recorded or displayed value."""

_DECLARED: Final = type(attrs.field())

FieldKind = Literal["value", "group", "component"]


@attrs.frozen(kw_only=True)
class FieldSpec:
    """Metadata of a field in addition to its attrs name, type and default.

    Attributes:
        kind: `value` (a leaf), `group` (a nested parameter class) or `component` (chosen by name).
        help: one sentence for `--help`.
        check: limit of a leaf, or None.
        several: True if any number of components can be chosen.
        repeat: True if each of several components can be chosen more than once, in an order that matters.
        choices: for components, either the plugin kind (`"optimizer"`) or a mapping from name to parameter class.
        short: True if the options of the group or component also exist without the parent's prefix
            (`--optimizer.epsilon` for `--trainer.optimizer.epsilon`).
        resource: True if a leaf names files that are copied into the model's folder.
        secret: True if a leaf's value is never recorded, or a function from the value to its recorded form.
        contacts: True if a leaf's value is an address that a run connects to, or a function from the value to that
            address or an empty string.
        convert: function that converts other forms of a leaf's value, from files or Python, to its type, or other forms
            of a list of components to that list.
        aliases: further names of a leaf, which options and files may use.
        replaces: fields of the same class that become None when a leaf gets a value, see `field`.
    """

    kind: FieldKind
    help: str
    check: Check | None = None
    several: bool = False
    repeat: bool = False
    choices: str | Mapping[str, type] | None = None
    short: bool = False
    resource: bool = False
    secret: bool | Callable[[str], str] = False
    contacts: bool | Callable[[Any], str] = False
    convert: Callable[[Any], Any] | None = None
    aliases: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()


def field(
    default: Any = REQUIRED,
    *,
    help: str,
    check: Check | None = None,
    resource: bool = False,
    secret: bool | Callable[[str], str] = False,
    contacts: bool | Callable[[Any], str] = False,
    convert: Callable[[Any], Any] | None = None,
    aliases: Sequence[str] = (),
    replaces: Sequence[str] = (),
) -> Any:
    """Declare a leaf.

    The type is bool, int, float, str, Path, an Enum, a Literal, `int | Literal`, `X | None`, `tuple[X, ...]`,
    `tuple[X, Y]` or `dict[str, X]`.

    Args:
        default: value of the field if the user gives none. A field without a default is required.
        help: one sentence for `--help`.
        check: limit of the value.
        resource: for a `Path`, `Path | None` or `tuple[Path, ...]`: the files are part of the model. They must exist.
            They are copied into the model's folder, and found there even after the folder has moved.
        secret: for `str` or `str | None`: the value is a password or a token. It is recorded and shown as `***`.
            To resume a run, pass the value again, as an option or in the environment variable `AIP_SECRET_` + OPTION.
            A function returns the recorded form of a value, with `***` in place of the secret parts.
        contacts: the value is an address, such as a URL, that a run connects to. An address from the folder of a run or
            a model requires `--trust`. A password in it is treated as a secret. A function returns the address for a
            value, or an empty string if nothing is contacted.
        convert: function that converts other forms of the value from files or Python, such as a mapping, to the field's
            type. It returns all other values unchanged.
        aliases: names of the same parameter in other frameworks. Options and parameter files accept them in place of
            the name. Records contain the name.
        replaces: fields of the same class, of type `X | None`, that this one replaces. A layer that gives a value other
            than None sets them to None, unless it gives them too.
    """
    spec = FieldSpec(
        kind="value",
        help=help,
        check=check,
        resource=resource,
        secret=secret,
        contacts=contacts,
        convert=convert,
        aliases=tuple(aliases),
        replaces=tuple(replaces),
    )
    validator = None if check is None else _attrs_validator(check, spec)
    if isinstance(default, dict):
        # Instances must not share a table.
        default = attrs.Factory(default.copy)
    return attrs.field(
        default=default,
        validator=validator,
        converter=convert,
        metadata={METADATA_KEY: spec},
    )


def group(cls: type[Any], *, help: str = "", short: bool = False) -> Any:
    """Declare a nested parameter class. Its default is `cls()`."""
    return attrs.field(factory=cls, metadata={METADATA_KEY: FieldSpec(kind="group", help=help, short=short)})


def component(
    choices: str | Mapping[str, type],
    *,
    default: str | None,
    help: str,
    short: bool = False,
) -> Any:
    """Declare a component that is chosen by name. The value is a `Choice`, or None if no component is chosen.

    Several names may share one parameter class. In Python, a name alone selects an entry of a mapping with its default
    parameters.

    Args:
        choices: a plugin kind (`"optimizer"`), open to plugins, or a mapping from name to parameter class.
        default: name of the default component; None for no component (the field's type is
            `Choice[X] | None`).
        help: one sentence for `--help`.
        short: see `FieldSpec`.
    """
    spec = FieldSpec(kind="component", help=help, choices=choices, short=short)
    return attrs.field(
        default=None if default is None else Choice(default, None),
        converter=_converter(lambda value, where: None if value is default is None else _choice(value, spec, where)),
        metadata={METADATA_KEY: spec},
    )


def components(
    choices: str | Mapping[str, type],
    *,
    default: Sequence[str | Choice[Any]] = (),
    help: str,
    short: bool = False,
    repeat: bool = False,
    convert: Callable[[Any], Any] | None = None,
) -> Any:
    """Declare any number of components of one kind, each chosen by name at most once, or any number of times.

    The value is a tuple of `Choice`.

    Args:
        choices: see `component`.
        default: names of the default components, or `Choice` objects with their parameters if `choices` is a mapping.
        help: one sentence for `--help`.
        short: see `FieldSpec`.
        repeat: if True, a component can be chosen more than once: `--model.layers Conv Pool Conv LSTM`. The option of a
            component contains its number, from 1, `--model.layers.3.filters 60`, or its name if it is unique:
            `--model.layers.LSTM.units 100`. A new list replaces the old one with all its options.
        convert: function that converts another form of the value, such as a text, to a list of names and `Choice`
            objects. The words of an option are passed as one text. It returns all other values unchanged.
    """
    spec = FieldSpec(
        kind="component", several=True, repeat=repeat, help=help, choices=choices, short=short, convert=convert
    )
    chosen = tuple(Choice(each, None) if isinstance(each, str) else each for each in default)
    return attrs.field(
        # Parameters are given to all components of the default, or to none.
        default=chosen if all(each.params is None for each in chosen) else _several(chosen, spec, "The default"),
        converter=_converter(lambda value, where: _several(value, spec, where)),
        metadata={METADATA_KEY: spec},
    )


def _converter(convert: Callable[[Any, str], Any]) -> Any:
    """Return an attrs converter that calls `convert` with the value and the name of the field."""

    def named(value: Any, owner: Any, field: attrs.Attribute[Any]) -> Any:
        return convert(value, f"{type(owner).__name__}.{field.name}")

    return attrs.Converter(named, takes_self=True, takes_field=True)


def _several(value: Any, spec: FieldSpec, where: str) -> tuple[Choice[Any], ...]:
    value = value if spec.convert is None else spec.convert(value)
    if not isinstance(value, list | tuple):
        raise ParamsError(f"{where} is not a list. Write a list of Choice objects.")
    found = tuple(_choice(each, spec, where) for each in value)
    names = [normalize(each.name) for each in found]
    for each in () if spec.repeat else found:
        if names.count(normalize(each.name)) > 1:
            raise ParamsError(f"{where}: {each.name} is named twice. Name it once.")
    return found


def _choice(value: Any, spec: FieldSpec, where: str) -> Choice[Any]:
    """Return the `Choice` for a component value that was given in Python.

    Raises:
        ParamsError: the value is not a `Choice`, or is one of another component.
    """
    kind, names = where.rpartition(".")[2], spec.choices if isinstance(spec.choices, Mapping) else {}
    given = Choice(value, None) if names and isinstance(value, str) else value
    if not isinstance(given, Choice):
        raise ParamsError(f"{where} is not a Choice. Write {how_to_choose(value, names)}.")
    if not names:
        # Only `resolve` knows the available plugins. It replaces a default that has only a name.
        return given
    source = StaticChoices({kind: names})
    name = source.canonical(kind, given.name)
    cls = source.params_class(kind, name)
    params = cls() if given.params is None else given.params
    if not isinstance(params, cls):
        raise ParamsError(f"{where}: the parameters of {name} must be {cls.__name__}, not {type(params).__name__}.")
    return Choice(name, params)


def how_to_choose(value: Any, names: Mapping[str, type]) -> str:
    """Return the `Choice(...)` code to suggest for a value that is only a name or only parameters."""
    if value is None or isinstance(value, str):
        return f"Choice({value!r}, its parameters)" if value else "Choice(name, parameters)"
    name = next((repr(name) for name, cls in names.items() if cls is type(value)), "its name")
    return f"Choice({name}, {type(value).__name__}(...))"


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field, group, component, components))
def params(cls: type[T]) -> type[T]:
    """Turn a class into a parameter class: frozen, keyword-only, all fields by `field`, `group` or `component(s)`.

    Raises:
        ParamsError: a field has no type or is not declared.
    """
    for base in cls.__mro__[1:]:
        require_decorated(base)
    inherited = {attribute.name for base in cls.__mro__[1:] if attrs.has(base) for attribute in attrs.fields(base)}
    annotated = vars(cls).get("__annotations__", {})
    for name, value in vars(cls).items():
        # attrs would drop the one, and replace the other by the inherited field.
        if name not in annotated and (isinstance(value, _DECLARED) or name in inherited):
            raise ParamsError(f"{cls.__name__}.{name} has no type. Write {name}: TYPE = field(..., help='...').")
        if name not in annotated and _is_plain(name, value):
            raise ParamsError(
                f"{cls.__name__}.{name} = {value!r} is not a parameter. Write {name}: {type(value).__name__} = "
                f"field({value!r}, help='...'), or {name}: ClassVar = {value!r} for a constant."
            )
    made = attrs.frozen(cls, kw_only=True, slots=False, auto_attribs=True)
    for attribute in attrs.fields(cast(Any, made)):
        if METADATA_KEY not in attribute.metadata:
            raise ParamsError(
                f"{cls.__name__}.{attribute.name} is not declared. Write it as field(..., help='...') "
                "so that --help can show it."
            )
    return made


def require_decorated(cls: type) -> None:
    """Refuse a class that extends a parameter class or uses `field` but lacks `@params`: its fields would be lost.

    Raises:
        ParamsError: `@params` is missing.
    """
    if "__attrs_attrs__" in vars(cls):
        return
    fields = [name for name, value in vars(cls).items() if isinstance(value, _DECLARED)]
    if attrs.has(cls):
        fields += inspect.get_annotations(cls)
        fields += [name for name, value in vars(cls).items() if _is_plain(name, value)]
    if fields:
        raise ParamsError(f"{cls.__name__} lacks @params, so its field {fields[0]} would be ignored. Add @params.")


def _is_plain(name: str, value: Any) -> bool:
    """Return True if a class attribute is a value, not a method, nested class, constant or internal of Python."""
    return isinstance(value, bool | int | float | str | list | tuple | dict | set | None) and not (
        name.startswith("_") or name.isupper()
    )


def spec_of(attribute: attrs.Attribute[Any]) -> FieldSpec:
    """Return the `FieldSpec` of an attrs attribute of a parameter class."""
    spec = attribute.metadata[METADATA_KEY]
    assert isinstance(spec, FieldSpec)
    return spec


def _attrs_validator(check: Check, spec: FieldSpec) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    def validate(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is REQUIRED or check.accepts(value):
            return
        if (spec.secret or spec.contacts) and SECRET in str(value):
            # A value from a record. The code that needs the value asks for it.
            return
        given = SECRET if spec.secret or spec.contacts else repr(value)
        raise ParamsError(
            f"{type(instance).__name__}.{attribute.name} = {given} is not allowed. It must be {check.allowed}."
        )

    return validate
