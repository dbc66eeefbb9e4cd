"""Names of variables that stay apart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def unique_names(names: Iterable[str]) -> list[str]:
    """The names in their order; the second of a name gets `~2` added, the third `~3`, and so on."""
    taken: dict[str, None] = {}
    for name in names:
        count = 1
        unique = name
        while unique in taken:
            count += 1
            unique = f"{name}~{count}"
        taken[unique] = None
    return list(taken)


def named_variables(models: Iterable[Any]) -> dict[str, Any]:
    """Return the variables of Keras models that share layers, each once, by unique names in the order of the models."""
    found = {id(variable): variable for model in models for variable in model.variables}
    return dict(zip(unique_names(each.path for each in found.values()), found.values(), strict=True))
