"""A Keras model rebuilt by its scenario, with the weights of an exported model or a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import keras
import tensorflow as tf

from aipcore.data.sample import ColumnSpec
from aipcore.errors import UsageError
from aipcore.prediction.locate import ModelDir
from aipcore.scenario.model import Graph, build_graph_of, further_graphs, inputs_of, prediction_graph
from aipcore.scenario.preprocessing import Preprocessing, with_preprocessing
from aipcore.scenario.scenario import Scenario
from aipcore.training.checkpoint.weights import Arrays, checkpoint_weights, model_weights
from aipcore.training.params import POLICIES
from aipcore.training.preprocessing import load_preprocessing

SAME_VERSION = "Use the version that trained the model."
SAME_WEIGHTS = "Change only parameters that keep the names and shapes of the weights."

_SEED = re.compile(r"(^|/)seed_generator_state$")


@attrs.frozen(kw_only=True, eq=False)
class Rebuilt:
    """The rebuilt models of a scenario, with the weights on disk.

    Attributes:
        trained: model that is trained.
        graph: model that is applied; the same object if there is only one.
        further: additional export graphs, by name.
        preprocessing: the preprocessing in front of the applied graphs, or None.
    """

    trained: Graph
    graph: Graph
    further: dict[str, Graph]
    preprocessing: Preprocessing | None = None


def rebuild(model: ModelDir, scenario: Scenario, *, changed: Mapping[str, ColumnSpec] | None = None) -> Rebuilt:
    """Build the Keras models of a scenario, and load the weights on disk.

    If the run used an EMA of the weights, a checkpoint provides the averages.

    Args:
        model: model on disk.
        scenario: scenario made with the parameters to build with.
        changed: inputs under changed parameters; by default the recorded inputs.

    Raises:
        UsageError: the weights are damaged or do not fit the model that the scenario builds.
    """
    preprocessing = load_preprocessing(model.home, model.about)
    # As in training: variable names must not depend on earlier models of this process.
    keras.utils.clear_session(free_memory=False)
    trainer = model.about["params"].get("trainer")
    precision = trainer.get("precision", "float32") if isinstance(trainer, Mapping) else "float32"
    if precision not in POLICIES:
        raise UsageError(f"{model.path} records the unknown precision {precision!r}. It is damaged. Use another copy.")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[precision])
    try:
        trained = build_graph_of(scenario, inputs_of(model.about["signature"]) if changed is None else changed)
        graph = prediction_graph(scenario, trained)
        further = further_graphs(scenario, trained)
    finally:
        keras.config.set_dtype_policy(before)
    # A SavedModel contains only the variables of the exported models.
    graphs = [trained] if model.kind == "checkpoint" else [graph, *further.values()]
    named = {variable.path: variable for each in graphs for variable in each.model.variables}
    arrays = checkpoint_weights(model.path) if model.kind == "checkpoint" else _of_saved_model(model.path)
    if changed is not None:
        # The state of random generators is not a weight: layers with random draws in training may be added or removed.
        named, arrays = (
            {name: value for name, value in one.items() if name in other or not _SEED.search(name)}
            for one, other in ((named, arrays), (arrays, named))
        )
    remedy = SAME_VERSION if changed is None else SAME_WEIGHTS
    _assign(named, arrays, model.path, remedy)
    return Rebuilt(
        trained=trained,
        graph=with_preprocessing(graph, preprocessing),
        further={name: with_preprocessing(each, preprocessing) for name, each in further.items()},
        preprocessing=preprocessing,
    )


def _of_saved_model(path: Path) -> Arrays:
    try:
        return model_weights(path)
    except (OSError, ValueError, LookupError, RuntimeError, tf.errors.OpError) as error:
        reason = " ".join(str(getattr(error, "message", None) or error).split())
        raise UsageError(f"The weights of {path} cannot be read ({reason}). Use another copy.") from error


def _assign(variables: Mapping[str, Any], arrays: Mapping[str, Any], path: Path, remedy: str) -> None:
    for name, variable in variables.items():
        if name not in arrays:
            raise UsageError(f"{path} has no weights for {name}. The scenario now builds another model. {remedy}")
        if tuple(variable.shape) != arrays[name].shape:
            raise UsageError(
                f"{path} has {name} of shape {arrays[name].shape}, but the scenario now builds it with "
                f"shape {tuple(variable.shape)}. {remedy}"
            )
    unused = sorted(arrays.keys() - variables.keys())
    if unused:
        raise UsageError(f"{path} has weights for {unused[0]}, which the scenario's model no longer has. {remedy}")
    for name, variable in variables.items():
        variable.assign(arrays[name])
