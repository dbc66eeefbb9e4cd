"""Weights with their names and naming schemes."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    import numpy.typing as npt


class Naming(enum.Enum):
    """The naming schemes of variables in a source; a model's variables have a name in each.

    PATHS: as in the program, such as `encoder/dense_1/kernel`.
    LAYERS: the names of the parent layers of the variable and its position, such as `encoder/dense_1/vars/0`.
    ATTRIBUTES: the same, but a layer that is an attribute of a layer has the attribute's name: `lstm/cell/vars/0`.
    ORDER: the same, but other layers have their class and position among those of the class: `sequential/dense/vars/0`.
    """

    PATHS = "paths"
    LAYERS = "layers"
    ATTRIBUTES = "attributes"
    ORDER = "order"


@attrs.frozen(kw_only=True, eq=False)
class Weights:
    """Arrays by name, in the order of the source if it has one.

    Attributes:
        arrays: arrays by name; those with the same name are identified by their place in the source.
        naming: the naming scheme.
        shared: the names that several arrays share.
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    naming: Naming
    shared: tuple[str, ...] = ()


def named_weights(found: Iterable[tuple[str, str, npt.NDArray[Any]]], naming: Naming) -> Weights:
    """Return weights from triples of a name, a place in the source, and an array.

    Raises:
        ValueError: the place of an array is the name of another.
    """
    listed = list(found)
    count = Counter(name for name, _, _ in listed)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, place, array in listed:
        key = name if count[name] == 1 else place
        if key in arrays:
            raise ValueError(f"two variables in it have the name {key}")
        arrays[key] = array
    return Weights(arrays=arrays, naming=naming, shared=tuple(name for name, times in count.items() if times > 1))
