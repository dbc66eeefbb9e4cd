"""All variables that change during training, read and written as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from aipcore.distributed.strategy import Distribution, ReplicaVariables, components, element_count, merge, path_of
from aipcore.errors import TrainingError

_REPLICA = re.compile(r"@\d+$")

Arrays = dict[str, npt.NDArray[Any]]


def without_replica(key: str) -> str:
    """Return the name of a variable from its key in a checkpoint, which ends in @NUMBER if replicas differ."""
    return _REPLICA.sub("", key)


class VariableState:
    """The variables of a run by name: `GROUP/PATH`, such as `model/encoder/dense/kernel` or `optimizer/adam/iteration`.

    A variable with a value on each of several replicas is stored once if the values are equal, as for weights.
    Otherwise (batch-norm statistics within an epoch, seeds of dropout), it is also stored as `NAME@1`, `NAME@2`, ...
    with the global index of the replica. All processes create it together, since they may have different variables.
    """

    def __init__(self, groups: Mapping[str, Mapping[str, Any]], distribution: Distribution) -> None:
        self._distribution = distribution
        self.variables: dict[str, Any] = {
            f"{group}/{path}": variable for group, variables in groups.items() for path, variable in variables.items()
        }
        names = [set(each) for each in distribution.processes.exchange("variables", sorted(self.variables))]
        # The variables of a sharded optimizer are in one process only.
        self._of_all, self._of_any = set.intersection(*names), set.union(*names)

    @property
    def replicas(self) -> int:
        """The number of replicas of this run."""
        return self._distribution.replicas

    def read(self) -> Arrays:
        """Return all current values on this worker. They do not change afterwards.

        In main memory, nothing is copied: an array shares the memory of its variable. When the variable is next
        assigned or updated, TensorFlow gives it new memory, because the old memory is still referenced.
        """
        arrays: Arrays = {}
        for name, variable in self.variables.items():
            parts = [_frozen(part) for part in components(variable)]
            arrays[name] = parts[0]
            if not all(np.array_equal(_bytes(part), _bytes(parts[0])) for part in parts[1:]):
                arrays |= {f"{name}@{number}": part for number, part in self._numbered(parts) if number}
        return arrays

    def gather(self) -> Arrays:
        """Return the values of all workers on the chief; on the others, the result of `read`."""
        own = self.read()
        processes = self._distribution.processes
        if processes.count == 1:
            return own
        # Weights are most of the state and identical everywhere, so only differing values are sent.
        prints = [f"{self._fingerprint(self.variables[name])} {name}" for name in self._of_all]
        found = [set(each) for each in processes.exchange("digests", prints)]
        unshared = set.union(*found) - set.intersection(*found)
        differing = {each.partition(" ")[2] for each in unshared}
        sent = {
            f"{name}@{number}" if name in self._of_all else name: _frozen(part)
            for name in self.variables
            if name in differing or name not in self._of_all
            for number, part in self._numbered(components(self.variables[name]))
        }
        for arrays in processes.gather_arrays("state", sent):
            own |= {name: array for name, array in arrays.items() if not name.endswith("@0")}
        return own

    def _fingerprint(self, variable: Any) -> str:
        """Return a fingerprint of a variable's value; if replicas of this process differ, one that no other has."""
        values = (tf.reshape(tf.convert_to_tensor(part), [1, element_count(part)]) for part in components(variable))
        # FarmHash: 12 times as fast as the hashes of Python, which would delay training for seconds.
        each = [tf.fingerprint(value).numpy().tobytes().hex() for value in values]
        return each[0] if len(set(each)) == 1 else f"{self._distribution.first}:{'-'.join(each)}"

    def _numbered(self, parts: list[Any]) -> Iterator[tuple[int, Any]]:
        return enumerate(parts, start=self._distribution.first)

    def write(self, arrays: Mapping[str, npt.NDArray[Any]], replicas: int | None = None) -> None:
        """Assign all values, after checking that names and shapes match this run.

        Args:
            arrays: the result of `gather`.
            replicas: the number of replicas that the values are from; None if it is that of this run.

        Raises:
            TrainingError: a variable is missing, unknown, or of another shape; nothing was assigned.
        """
        missing = self.variables.keys() - arrays.keys()
        unknown = {without_replica(name) for name in arrays} - self._of_any
        if missing or unknown:
            absent = f" It lacks {_some(missing)}." if missing else ""
            extra = f" This run has no {_some(unknown)}." if unknown else ""
            raise TrainingError(f"The saved state belongs to another model or optimizer.{absent}{extra}")
        for name, variable in self.variables.items():
            if tuple(variable.shape) != arrays[name].shape:
                raise TrainingError(
                    f"The saved state belongs to another model: {name} has shape {arrays[name].shape} in it "
                    f"and {tuple(variable.shape)} in this model."
                )
        values = arrays if replicas is None or replicas == self.replicas else self._moved(arrays, replicas)
        for name, variable in self.variables.items():
            for replica, part in self._numbered(components(variable)):
                part.assign(values.get(f"{name}@{replica}", values[name]))
        if values is not arrays:
            self._distribution.spread_seeds([v for name, v in self.variables.items() if name.startswith("model/")])

    def _moved(self, arrays: Mapping[str, npt.NDArray[Any]], before: int) -> Arrays:
        """Return the values of another number of replicas for those of this run.

        Sums over the samples of each replica (metrics, gradients of an incomplete group) are added up, and the first
        replica continues with the total. Statistics of batch normalization are averaged, as for a validation. Seeds of
        dropout follow from that of the first replica.
        """
        moved: Arrays = {}
        for name, variable in self.variables.items():
            parts = [arrays.get(f"{name}@{replica}", arrays[name]) for replica in range(before)]
            if isinstance(variable, ReplicaVariables):
                moved[name] = np.asarray(merge(variable.aggregation, parts), parts[0].dtype)
                if variable.aggregation == "sum":
                    zeros = np.zeros_like(parts[0])
                    moved |= {f"{name}@{replica}": zeros for replica in range(1, self.replicas)}
            elif all(part is parts[0] for part in parts) or not tf.as_dtype(parts[0].dtype).is_floating:
                moved[name] = parts[0]
            else:
                mean = merge("mean", [part.astype(np.float64) for part in parts])
                moved[name] = np.asarray(mean, parts[0].dtype)
        return moved


def by_path(variables: Iterable[Any], whose: str) -> dict[str, Any]:
    """Return variables of Keras or TensorFlow by their paths.

    Raises:
        TrainingError: two variables have the same path.
    """
    found: dict[str, Any] = {}
    for variable in variables:
        path = path_of(variable)
        if path in found:
            raise TrainingError(
                f"Two variables of {whose} have the path {path!r}. A checkpoint cannot distinguish them. Give each "
                "variable a unique name."
            )
        found[path] = variable
    return found


def _frozen(variable: Any) -> npt.NDArray[Any]:
    """Return the value of a plain variable, sharing its memory or, from another device, as a copy."""
    value = tf.convert_to_tensor(variable)
    # A tensor without dimensions is not converted to a NumPy view.
    array = np.asarray(value if value.shape.rank else value.numpy())
    array.flags.writeable = False
    return array


def _bytes(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return the bytes of an array without a copy: as bytes, NaN equals itself, and -0 differs from 0."""
    return array.reshape(-1).view(np.uint8)


def _some(names: set[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "") if listed else "none"
