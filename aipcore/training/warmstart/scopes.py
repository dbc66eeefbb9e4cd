"""Variables that share one name in a SavedModel.

Layers that another layer builds when it is called leave no trace in TensorFlow's own names: `stack/dense_1/kernel` and
`stack/dense_2/kernel` are both `stack/kernel`. This model's variables have such names too, so that their order tells
which is which.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from aipcore.training.variable_names import unique_names

T = TypeVar("T")


def told_apart(arrays: Mapping[str, T], paths: Sequence[str], variables: Sequence[Any]) -> dict[str, T]:
    """The arrays under the paths of this model's variables, where only TensorFlow's names differ from these.

    Args:
        arrays: by TensorFlow's names, those that occur again counted: `stack/kernel`, `stack/kernel~2`.
        paths: of the variables.
        variables: Keras variables in the model's order.

    Returns:
        the arrays; of variables that share a name in TensorFlow, all are found by number and shape, or none.
    """
    inside = unique_names(variable.value.name.removesuffix(":0") for variable in variables)
    here: dict[str, list[tuple[str, str, tuple[int, ...]]]] = {}
    for name, path, variable in zip(inside, paths, variables, strict=True):
        here.setdefault(_shared(name), []).append((name, path, tuple(variable.shape)))
    there: dict[str, list[str]] = {}
    for name in arrays:
        there.setdefault(_shared(name), []).append(name)
    found: dict[str, str] = {}
    for shared, group in here.items():
        shapes = [tuple(getattr(arrays.get(name), "shape", ("missing",))) for name, _, _ in group]
        alike = len(group) == len(there.get(shared, [])) and shapes == [shape for *_, shape in group]
        if alike and not any(path in arrays for name, path, _ in group if path != name):
            found |= {name: path for name, path, _ in group}
    return {found.get(name, name): array for name, array in arrays.items()}


def _shared(name: str) -> str:
    return re.sub(r"~\d+$", "", name)
