"""The joint outputs of several models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aipcore.errors import ScenarioError, UsageError
from aipcore.scenario.scenario import Scenario

Arrays = Mapping[str, npt.NDArray[Any]]


def vote(scenario: Scenario, outputs: Sequence[Arrays]) -> dict[str, npt.NDArray[Any]]:
    """Combine the outputs of several models for one batch.

    Args:
        scenario: scenario whose `vote` combines the outputs if it is overridden.
        outputs: outputs of each model by name, arrays of shape [batch, ...].

    Raises:
        UsageError: the models have outputs with different names or shapes.
        ScenarioError: an output is not floating-point, and the scenario does not define `vote`.
    """
    first = outputs[0]
    for number, other in enumerate(outputs[1:], start=2):
        if set(other) != set(first):
            raise UsageError(
                f"Model {number} returns {_names(other)}, but model 1 returns {_names(first)}. Models that vote need "
                "the same outputs."
            )
        for name, array in first.items():
            if array.shape != other[name].shape:
                raise UsageError(
                    f"{name or 'The output'} of model {number} has shape {other[name].shape}, but that of model 1 has "
                    f"shape {array.shape}. Models that vote need the same shapes."
                )
    joined = scenario.vote(outputs)
    if joined is None:
        return mean_vote(outputs, type(scenario).__name__)
    if set(joined) != set(first):
        raise ScenarioError(
            f"{type(scenario).__name__}.vote() returned {_names(joined)}. It must return {_names(first)}."
        )
    return {name: np.asarray(joined[name]) for name in first}


def mean_vote(outputs: Sequence[Arrays], kind: str) -> dict[str, npt.NDArray[Any]]:
    """Return the mean of each output over the models, computed in float64, in the dtype of the output.

    Args:
        outputs: outputs of each model, with equal names and shapes.
        kind: class name of the scenario, for errors.
    """
    joined = {}
    for name, array in outputs[0].items():
        if not np.issubdtype(array.dtype, np.floating) and array.dtype.name != "bfloat16":
            raise ScenarioError(
                f"The output {name or 'of the model'} has dtype {array.dtype}, which has no mean. Define "
                f"{kind}.vote(outputs)."
            )
        total = sum(each[name].astype(np.float64) for each in outputs)
        joined[name] = np.asarray(total / len(outputs), array.dtype)
    return joined


def _names(outputs: Mapping[str, Any]) -> str:
    return ", ".join(name or "one output without a name" for name in outputs) or "nothing"
