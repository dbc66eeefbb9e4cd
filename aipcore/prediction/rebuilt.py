"""A Keras model built anew by its scenario, with the weights of an exported model or a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from aipcore.errors import UsageError
from aipcore.prediction.model_dir import ModelDir
from aipcore.scenario.graph import Graph, build_graph_of, inputs_of, prediction_graph
from aipcore.scenario.scenario import Scenario
from aipcore.training.checkpoint import read_checkpoint
from aipcore.training.params import POLICIES

Arrays = dict[str, npt.NDArray[Any]]

_STATE = re.compile(r"state/(\d+)/\.ATTRIBUTES/VARIABLE_VALUE")
_REPLICA = re.compile(r"@\d+$")


def rebuild(model: ModelDir, scenario: Scenario) -> Graph:
    """Builds the Keras model of a scenario as it is applied, and gives it the weights on disk.

    Where a run averaged its weights, a checkpoint gives the averages.

    Raises:
        UsageError: the weights are damaged, or of another model than the scenario builds now.
    """
    # As in training: names of variables must not depend on what else was built in this process.
    keras.utils.clear_session(free_memory=False)
    trainer = model.about["params"].get("trainer")
    precision = trainer.get("precision", "float32") if isinstance(trainer, Mapping) else "float32"
    if precision not in POLICIES:
        raise UsageError(f"{model.path} records the precision {precision!r}, which there is not: it is damaged.")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[precision])
    try:
        trained = build_graph_of(scenario, inputs_of(model.about["signature"]))
        graph = prediction_graph(scenario, trained)
    finally:
        keras.config.set_dtype_policy(before)
    variables = list((trained if model.kind == "checkpoint" else graph).model.variables)
    named = {variable.path: variable for variable in variables}
    arrays = _of_checkpoint(model.path) if model.kind == "checkpoint" else _of_saved_model(model, list(named))
    _assign(named, arrays, model.path)
    return graph


def _of_checkpoint(path: Path) -> Arrays:
    parts: dict[str, list[npt.NDArray[Any]]] = {}
    averages: Arrays = {}
    for name, array in read_checkpoint(path).arrays.items():
        group, _, rest = name.partition("/")
        if group == "model":
            parts.setdefault(_REPLICA.sub("", rest), []).append(array)
        elif group == "ema":
            averages[rest] = array
    return {name: _mean(values) for name, values in parts.items()} | averages


def _mean(values: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    # Within an epoch each replica has statistics of its own; elsewhere, as of seeds, any will do.
    if len(values) == 1 or not np.issubdtype(values[0].dtype, np.floating):
        return values[0]
    return np.asarray(np.mean([value.astype(np.float64) for value in values], axis=0), values[0].dtype)


def _of_saved_model(model: ModelDir, names: list[str]) -> Arrays:
    """The variables by the recorded names, or else in the order in which the model has them."""
    recorded = model.about.get("variables")
    order = recorded if isinstance(recorded, list) else names
    try:
        reader = tf.train.load_checkpoint(str(model.path / "variables" / "variables"))
        stored = sorted(
            (int(match[1]), key) for key in reader.get_variable_to_shape_map() if (match := _STATE.fullmatch(key))
        )
        arrays = [reader.get_tensor(key) for _, key in stored]
    except (OSError, ValueError, IndexError, RuntimeError, tf.errors.OpError) as error:
        reason = " ".join(str(getattr(error, "message", None) or error).split())
        raise UsageError(f"The weights of {model.path} cannot be read ({reason}): take another copy.") from error
    if len(arrays) != len(order):
        raise UsageError(
            f"{model.path} holds {len(arrays)} variables, but the scenario builds a model with {len(order)}: it has "
            "changed since; use the version that trained the model."
        )
    return dict(zip(map(str, order), arrays, strict=True))


def _assign(variables: Mapping[str, Any], arrays: Mapping[str, Any], path: Path) -> None:
    for name, variable in variables.items():
        if name not in arrays:
            raise UsageError(
                f"{path} has no weights for {name}: the scenario builds another model now; use the version that "
                "trained it."
            )
        if tuple(variable.shape) != arrays[name].shape:
            raise UsageError(
                f"{path} has {name} of shape {arrays[name].shape}, but the scenario builds it of shape "
                f"{tuple(variable.shape)}: use the version that trained the model."
            )
    unused = sorted(arrays.keys() - variables.keys())
    if unused:
        raise UsageError(
            f"{path} has weights for {unused[0]}, which the model that the scenario builds now has not: use the "
            "version that trained it."
        )
    for name, variable in variables.items():
        variable.assign(arrays[name])
