"""Weights that were read, and how they are named."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import attrs
import numpy.typing as npt


class Naming(enum.Enum):
    """How the variables of a source are named; a model's variables have a name of each kind.

    PATHS: as in the program, such as `encoder/dense_1/kernel`.
    LAYERS: the names of the layers around the variable and its position, such as `encoder/dense_1/vars/0`.
    ATTRIBUTES: the same, but layers that are an attribute of a layer go by its name: `lstm/cell/vars/0`.
    ORDER: the same again, but the others go by class and position among those of the class: `sequential/dense/vars/0`.
    """

    PATHS = "paths"
    LAYERS = "layers"
    ATTRIBUTES = "attributes"
    ORDER = "order"


@attrs.frozen(kw_only=True, eq=False)
class Weights:
    """Arrays by name, in the order of the source as far as it has one."""

    arrays: Mapping[str, npt.NDArray[Any]]
    naming: Naming
