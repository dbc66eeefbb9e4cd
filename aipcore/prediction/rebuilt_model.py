"""A Keras model built anew by its scenario, with the weights of an exported model or a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from aipcore.data.sample import ColumnSpec
from aipcore.errors import UsageError
from aipcore.params.names import count
from aipcore.prediction.locate import ModelDir
from aipcore.scenario.model import Graph, build_graph_of, further_graphs, inputs_of, prediction_graph
from aipcore.scenario.scenario import Scenario
from aipcore.training.checkpoint.format import read_checkpoint
from aipcore.training.params import POLICIES
from aipcore.training.warmstart.readers import load_variables

Arrays = dict[str, npt.NDArray[Any]]

SAME_VERSION = "use the version that trained the model"
SAME_WEIGHTS = "change only parameters that leave the weights as they are"

_STATE = re.compile(r"state/(\d+)/\.ATTRIBUTES/VARIABLE_VALUE")
_SEED = re.compile(r"(^|/)seed_generator_state$")
_REPLICA = re.compile(r"@\d+$")


@attrs.frozen(kw_only=True, eq=False)
class Rebuilt:
    """The models that a scenario builds, with the weights on disk.

    Attributes:
        trained: the one that is trained.
        graph: the one that is applied; the same object, if that is no other.
        further: graphs that are exported beside that, by name.
    """

    trained: Graph
    graph: Graph
    further: dict[str, Graph]


def rebuild(model: ModelDir, scenario: Scenario, *, changed: Mapping[str, ColumnSpec] | None = None) -> Rebuilt:
    """Builds the Keras models of a scenario, and gives them the weights on disk.

    Where a run averaged its weights, a checkpoint gives the averages.

    Args:
        model: what is on disk.
        scenario: made with the parameters to build with.
        changed: the inputs, if these parameters are not the recorded ones; by default the recorded inputs.

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
        trained = build_graph_of(scenario, inputs_of(model.about["signature"]) if changed is None else changed)
        graph = prediction_graph(scenario, trained)
        further = further_graphs(scenario, trained)
    finally:
        keras.config.set_dtype_policy(before)
    # A SavedModel has the variables of what is exported alone.
    graphs = [trained] if model.kind == "checkpoint" else [graph, *further.values()]
    named = {variable.path: variable for each in graphs for variable in each.model.variables}
    arrays = _of_checkpoint(model.path) if model.kind == "checkpoint" else _of_saved_model(model, list(named))
    if changed is not None:
        # Where random numbers stand is no weight: a layer that draws some in training may come or go.
        named, arrays = (
            {name: value for name, value in one.items() if name in other or not _SEED.search(name)}
            for one, other in ((named, arrays), (arrays, named))
        )
    remedy = SAME_VERSION if changed is None else SAME_WEIGHTS
    _assign(named, arrays, model.path, remedy)
    return Rebuilt(trained=trained, graph=graph, further=further)


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
        reader = load_variables(model.path)
        stored = sorted(
            (int(match[1]), key) for key in reader.get_variable_to_shape_map() if (match := _STATE.fullmatch(key))
        )
        arrays = [reader.get_tensor(key) for _, key in stored]
    except (OSError, ValueError, IndexError, RuntimeError, tf.errors.OpError) as error:
        reason = " ".join(str(getattr(error, "message", None) or error).split())
        raise UsageError(f"The weights of {model.path} cannot be read ({reason}): take another copy.") from error
    if len(arrays) != len(order):
        raise UsageError(
            f"{model.path} holds {count(len(arrays), 'variable')}, but the scenario builds a model with {len(order)}: "
            "it has changed since; use the version that trained the model."
        )
    return dict(zip(map(str, order), arrays, strict=True))


def _assign(variables: Mapping[str, Any], arrays: Mapping[str, Any], path: Path, remedy: str) -> None:
    for name, variable in variables.items():
        if name not in arrays:
            raise UsageError(f"{path} has no weights for {name}: the scenario builds another model now; {remedy}.")
        if tuple(variable.shape) != arrays[name].shape:
            raise UsageError(
                f"{path} has {name} of shape {arrays[name].shape}, but the scenario builds it of shape "
                f"{tuple(variable.shape)}: {remedy}."
            )
    unused = sorted(arrays.keys() - variables.keys())
    if unused:
        raise UsageError(
            f"{path} has weights for {unused[0]}, which the model that the scenario builds now has not: {remedy}."
        )
    for name, variable in variables.items():
        variable.assign(arrays[name])
