"""Where the choices of a component come from: a mapping in the class, or plugins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from aipcore.errors import ParamsError
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

    def name_of(self, kind: str, cls: type) -> str:
        """The name whose parameter class is `cls`."""


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

    def name_of(self, kind: str, cls: type) -> str:
        """See `Choices`."""
        for name, known in self._kinds.get(kind, {}).items():
            if known is cls:
                return name
        raise ParamsError(f"{cls.__name__} is no {kind}; there are {one_of(self.names(kind)) or 'none'}.")


NO_CHOICES = StaticChoices({})
"""For parameter classes without plugin components."""
