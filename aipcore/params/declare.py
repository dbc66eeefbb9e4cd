"""Declarations of typed parameters: what an author writes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, Literal, Protocol, TypeVar, cast, dataclass_transform

import attrs

from aipcore.errors import ParamsError
from aipcore.params.checks import Check
from aipcore.params.names import nearest, normalize, one_of


class Choices(Protocol):
    """The components of each plugin kind; names are compared by `normalize`."""

    def names(self, kind: str) -> Sequence[str]:
        """The names that can be chosen, as they are shown."""

    def canonical(self, kind: str, name: str) -> str:
        """The name as it is shown; raises `AipError`, naming near ones, if there is none."""

    def params_class(self, kind: str, name: str) -> type:
        """The parameter class of that name."""

    def summary(self, kind: str, name: str) -> str:
        """One sentence on that component."""


class StaticChoices:
    """Components from mappings: per kind, from name to parameter class."""

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
        hint = f"did you mean {one_of(near)}?" if near else f"give {one_of(names) if names else 'none'}."
        raise ParamsError(f"There is no {kind} {name!r}; {hint}")

    def params_class(self, kind: str, name: str) -> type:
        """See `Choices`."""
        return self._kinds[kind][self.canonical(kind, name)]

    def summary(self, kind: str, name: str) -> str:
        """See `Choices`: the first line of the class's docstring."""
        lines = (self.params_class(kind, name).__doc__ or "").strip().splitlines()
        return lines[0] if lines else ""


NO_CHOICES = StaticChoices({})
"""For parameter classes without plugin components."""


T = TypeVar("T")
P_co = TypeVar("P_co", covariant=True)


@attrs.frozen
class Choice(Generic[P_co]):
    """The value of a field declared by `component`; `components` holds a tuple of them.

    Attributes:
        name: of the component, as it is shown.
        params: an instance of its parameter class.
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
"""Default of a field that the user must give; checked before anything heavy is imported."""

METADATA_KEY: Final = "aip"

SECRET: Final = "***"
"""What stands for a secret wherever a value is recorded or shown."""

_DECLARED: Final = type(attrs.field())

FieldKind = Literal["value", "group", "component"]


@attrs.frozen(kw_only=True)
class FieldSpec:
    """What aip knows of a field beyond its attrs name, type and default.

    Attributes:
        kind: `value` (a leaf), `group` (a nested parameter class) or `component` (chosen by name).
        help: one sentence for `--help`.
        check: the limit of a leaf, or None.
        several: whether any number of components can be chosen, each at most once.
        choices: for components, either the plugin kind (`"optimizer"`) or a mapping from name to parameter class.
        short: whether the group's or component's options also exist without the parent's prefix
            (`--optimizer.epsilon` for `--trainer.optimizer.epsilon`).
        resource: whether a leaf names files that go into the model's folder.
        secret: whether a leaf's value is recorded nowhere, or returns what is recorded of it.
        contacts: whether a leaf's value is an address that is contacted, or returns that address for a value, or an
            empty text.
        convert: turns other forms of a leaf's value, as a file or Python may give it, into one of its type.
    """

    kind: FieldKind
    help: str
    check: Check | None = None
    several: bool = False
    choices: str | Mapping[str, type] | None = None
    short: bool = False
    resource: bool = False
    secret: bool | Callable[[str], str] = False
    contacts: bool | Callable[[Any], str] = False
    convert: Callable[[Any], Any] | None = None


def field(
    default: Any = REQUIRED,
    *,
    help: str,
    check: Check | None = None,
    resource: bool = False,
    secret: bool | Callable[[str], str] = False,
    contacts: bool | Callable[[Any], str] = False,
    convert: Callable[[Any], Any] | None = None,
) -> Any:
    """Declares a leaf.

    Its type is bool, int, float, str, Path, an Enum, a Literal, `int | Literal`, `X | None`, `tuple[X, ...]`,
    `tuple[X, Y]` or `dict[str, X]`.

    Args:
        default: the value that the user need not give; without one, it is required.
        help: one sentence for `--help`.
        check: the limit of the value.
        resource: for a `Path`, `Path | None` or `tuple[Path, ...]`: the files are part of the model. They must exist,
            and are copied into its folder, where they are found again wherever that folder is.
        secret: for `str` or `str | None`: the value is a password or a token. It is recorded and shown as `***`.
            Who resumes the run gives it again, as an option or in the environment variable `AIP_SECRET_` + OPTION.
            A function returns what is recorded of a value, with `***` in the place of what is not.
        contacts: the value is an address, such as a URL, that a run connects to. One that comes from the folder of a
            run or a model needs `--trust`. A password in it is treated as a secret is. A function returns the address
            for a value, or an empty text where nothing is contacted.
        convert: turns another form of the value that a file or Python may give, such as a mapping, into a value of the
            field's type. It returns anything else unchanged.
    """
    spec = FieldSpec(
        kind="value", help=help, check=check, resource=resource, secret=secret, contacts=contacts, convert=convert
    )
    validator = None if check is None else _attrs_validator(check, spec)
    if isinstance(default, dict):
        # Instances must not share one table.
        default = attrs.Factory(default.copy)
    return attrs.field(
        default=default,
        validator=validator,
        converter=convert,
        metadata={METADATA_KEY: spec},
    )


def group(cls: type[Any], *, help: str = "", short: bool = False) -> Any:
    """Declares a nested parameter class; its default is `cls()`."""
    return attrs.field(factory=cls, metadata={METADATA_KEY: FieldSpec(kind="group", help=help, short=short)})


def component(
    choices: str | Mapping[str, type],
    *,
    default: str | None,
    help: str,
    short: bool = False,
) -> Any:
    """Declares one of several components, chosen by name. The value is a `Choice`, or None if there is none.

    Several names may share one parameter class. In Python, the name alone stands for a choice of a mapping with its
    defaults.

    Args:
        choices: a plugin kind (`"optimizer"`), open to plugins, or a mapping from name to parameter class.
        default: the name chosen when the user names none. None: no component (the field's type is
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
    default: tuple[str, ...] = (),
    help: str,
    short: bool = False,
) -> Any:
    """Declares any number of components of one kind, each chosen by name at most once.

    The value is a tuple of `Choice`.
    """
    spec = FieldSpec(kind="component", several=True, help=help, choices=choices, short=short)
    return attrs.field(
        default=tuple(Choice(name, None) for name in default),
        converter=_converter(lambda value, where: _several(value, spec, where)),
        metadata={METADATA_KEY: spec},
    )


def _converter(convert: Callable[[Any, str], Any]) -> Any:
    """Return the converter of a field that `convert` makes from a value and the name of the field."""

    def named(value: Any, owner: Any, field: attrs.Attribute[Any]) -> Any:
        return convert(value, f"{type(owner).__name__}.{field.name}")

    return attrs.Converter(named, takes_self=True, takes_field=True)


def _several(value: Any, spec: FieldSpec, where: str) -> tuple[Choice[Any], ...]:
    if not isinstance(value, list | tuple):
        raise ParamsError(f"{where} is not a list. Write a list of Choice.")
    found = tuple(_choice(each, spec, where) for each in value)
    names = [normalize(each.name) for each in found]
    for each in found:
        if names.count(normalize(each.name)) > 1:
            raise ParamsError(f"{where}: {each.name} is named twice. Name it once.")
    return found


def _choice(value: Any, spec: FieldSpec, where: str) -> Choice[Any]:
    """Return what a class holds for a component that Python code gives.

    Raises:
        ParamsError: it is not a `Choice`, or one of another component.
    """
    kind, names = where.rpartition(".")[2], spec.choices if isinstance(spec.choices, Mapping) else {}
    given = Choice(value, None) if names and isinstance(value, str) else value
    if not isinstance(given, Choice):
        raise ParamsError(f"{where} is not a Choice. Write {how_to_choose(value, names)}.")
    if not names:
        # Which plugins there are is known to `resolve`, which replaces a default that has its name alone.
        return given
    source = StaticChoices({kind: names})
    name = source.canonical(kind, given.name)
    cls = source.params_class(kind, name)
    params = cls() if given.params is None else given.params
    if not isinstance(params, cls):
        raise ParamsError(f"{where}: {name} has {cls.__name__} as its parameters, not {type(params).__name__}.")
    return Choice(name, params)


def how_to_choose(value: Any, names: Mapping[str, type]) -> str:
    """Return the code of the `Choice` that Python code meant by the name or the parameters alone."""
    if value is None or isinstance(value, str):
        return f"Choice({value!r}, its parameters)" if value else "Choice(name, parameters)"
    name = next((repr(name) for name, cls in names.items() if cls is type(value)), "its name")
    return f"Choice({name}, {type(value).__name__}(...))"


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field, group, component, components))
def params(cls: type[T]) -> type[T]:
    """Makes a parameter class: frozen, keyword-only, every field declared by `field`, `group` or `component(s)`.

    Raises:
        ParamsError: a field has no type or is not declared.
    """
    for base in cls.__mro__[1:]:
        require_decorated(base)
    inherited = {attribute.name for base in cls.__mro__[1:] if attrs.has(base) for attribute in attrs.fields(base)}
    annotated = vars(cls).get("__annotations__", {})
    for name, value in vars(cls).items():
        # attrs would leave out the one, and ignore the other in favour of the inherited field.
        if name not in annotated and (isinstance(value, _DECLARED) or name in inherited):
            raise ParamsError(f"{cls.__name__}.{name} has no type: write {name}: TYPE = field(..., help='...').")
        if name not in annotated and _is_plain(name, value):
            raise ParamsError(
                f"{cls.__name__}.{name} = {value!r} is not a parameter. Write {name}: {type(value).__name__} = "
                f"field({value!r}, help='...'), or {name}: ClassVar = {value!r} for a constant."
            )
    made = attrs.frozen(cls, kw_only=True, slots=False, auto_attribs=True)
    for attribute in attrs.fields(cast(Any, made)):
        if METADATA_KEY not in attribute.metadata:
            raise ParamsError(
                f"{cls.__name__}.{attribute.name} is not declared: write it as field(..., help='...') "
                "so that --help can show it."
            )
    return made


def require_decorated(cls: type) -> None:
    """Refuse a class that extends a parameter class or uses `field`, but lacks `@params` and would lose its fields.

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
        raise ParamsError(f"{cls.__name__} lacks @params, so that its field {fields[0]} would be ignored. Add @params.")


def _is_plain(name: str, value: Any) -> bool:
    """Whether an attribute of a class is a value rather than a method, a nested class, a constant or Python's own."""
    return isinstance(value, bool | int | float | str | list | tuple | dict | set | None) and not (
        name.startswith("_") or name.isupper()
    )


def spec_of(attribute: attrs.Attribute[Any]) -> FieldSpec:
    """The `FieldSpec` of an attrs attribute of a parameter class."""
    spec = attribute.metadata[METADATA_KEY]
    assert isinstance(spec, FieldSpec)
    return spec


def _attrs_validator(check: Check, spec: FieldSpec) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    def validate(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is REQUIRED or check.accepts(value):
            return
        if (spec.secret or spec.contacts) and SECRET in str(value):
            # What a record holds; whoever needs the value asks for it.
            return
        given = SECRET if spec.secret or spec.contacts else repr(value)
        raise ParamsError(
            f"{type(instance).__name__}.{attribute.name} = {given} is not allowed: it must be {check.allowed}."
        )

    return validate
