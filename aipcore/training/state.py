"""Everything that changes while a model trains, read and written as a whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from aipcore.devices.distribution import components
from aipcore.errors import TrainingError
from aipcore.training.variable_names import unique_names

_REPLICA = re.compile(r"@\d+$")

Arrays = dict[str, npt.NDArray[Any]]


class VariableState:
    """The variables of a run under unique names, such as `model/dense/kernel` or `optimizer/adam/iteration`.

    A variable that has a value on each of several replicas is stored once if these agree, as weights do, and otherwise
    (batch-norm statistics within an epoch, seeds of dropout) also under `NAME@1`, `NAME@2` and so on.
    """

    def __init__(self, groups: Mapping[str, list[Any]]) -> None:
        self.variables: dict[str, Any] = {}
        for group, variables in groups.items():
            paths = [getattr(each, "path", each.name.removesuffix(":0")) for each in variables]
            self.variables |= zip(unique_names(f"{group}/{path}" for path in paths), variables, strict=True)

    def read(self) -> Arrays:
        """Copies of all values."""
        arrays: Arrays = {}
        for name, variable in self.variables.items():
            first, *others = (np.array(part.numpy()) for part in components(variable))
            arrays[name] = first
            if any(other.tobytes() != first.tobytes() for other in others):
                arrays |= {f"{name}@{replica}": other for replica, other in enumerate(others, start=1)}
        return arrays

    def write(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Assigns all values, after checking that names and shapes are those of this run.

        Raises:
            TrainingError: a variable is missing, unknown, or of another shape; nothing was assigned.
        """
        missing = self.variables.keys() - arrays.keys()
        unknown = {_REPLICA.sub("", name) for name in arrays} - self.variables.keys()
        if missing or unknown:
            raise TrainingError(
                "The saved state is of another model or optimizer: "
                f"missing {_some(missing)}, not needed {_some(unknown)}."
            )
        for name, variable in self.variables.items():
            if tuple(variable.shape) != arrays[name].shape:
                raise TrainingError(
                    f"The saved state is of another model: {name} has shape {arrays[name].shape} there "
                    f"and {tuple(variable.shape)} here."
                )
        for name, variable in self.variables.items():
            for replica, part in enumerate(components(variable)):
                part.assign(arrays.get(f"{name}@{replica}", arrays[name]))


def _some(names: set[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "") if listed else "nothing"
