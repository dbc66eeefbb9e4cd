"""Everything that changes while a model trains, read and written as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from aipcore.errors import TrainingError

Arrays = dict[str, npt.NDArray[Any]]


class VariableState:
    """The variables of a run under unique names, such as `model/dense/kernel` or `optimizer/adam/iteration`."""

    def __init__(self, groups: Mapping[str, list[Any]]) -> None:
        self.variables: dict[str, Any] = {}
        for group, variables in groups.items():
            for variable in variables:
                name = f"{group}/{getattr(variable, 'path', variable.name.removesuffix(':0'))}"
                count = 1
                unique = name
                while unique in self.variables:
                    count += 1
                    unique = f"{name}~{count}"
                self.variables[unique] = variable

    def read(self) -> Arrays:
        """Copies of all values."""
        return {name: np.array(variable.numpy()) for name, variable in self.variables.items()}

    def write(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Assigns all values, after checking that names and shapes are those of this run.

        Raises:
            TrainingError: a variable is missing, unknown, or of another shape; nothing was assigned.
        """
        missing = self.variables.keys() - arrays.keys()
        unknown = arrays.keys() - self.variables.keys()
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
            variable.assign(arrays[name])


def _some(names: set[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "") if listed else "nothing"
