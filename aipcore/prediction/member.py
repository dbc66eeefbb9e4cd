"""One model among those that predict: arrays to arrays, at little more than the cost of the model itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from aipcore.data.specs import ColumnSpec
from aipcore.errors import DataError
from aipcore.prediction.model_dir import ModelDir
from aipcore.prediction.rebuilt import rebuild
from aipcore.prediction.served import ServedModel
from aipcore.scenario.graph import BARE_OUTPUT, Graph, argument_names, inputs_of
from aipcore.scenario.objective import mask_of
from aipcore.scenario.scenario import Scenario

Array = npt.NDArray[Any]
Model = Graph | ServedModel


def load_graph(model: ModelDir, scenario: Scenario) -> Model:
    """Loads a SavedModel, or builds the model of a checkpoint.

    Raises:
        UsageError: it is damaged, or does not fit its record or scenario.
    """
    return ServedModel(model) if model.kind == "model" else rebuild(model, scenario).graph


@attrs.frozen(kw_only=True, eq=False)
class Extras:
    """What losses depend on besides the outputs of a batch: a penalty, and masks of shape [batch, ...] by output."""

    penalty: float = 0.0
    masks: dict[str, Array] = attrs.field(factory=dict)


class Member:
    """A loaded model.

    Attributes:
        graph: the model.
        inputs: the spec of each input; a bare one has the name "".
        outputs: the names of the outputs; a bare one has the name "".
    """

    def __init__(self, graph: Model) -> None:
        self.graph = graph
        self.inputs: dict[str, ColumnSpec] = graph.inputs
        self.outputs = list(graph.outputs)
        self._function = graph.signature if isinstance(graph, ServedModel) else _compiled(graph)
        arguments = argument_names(self.inputs)
        self._from = [(name, arguments[name], np.dtype(spec.dtype)) for name, spec in self.inputs.items()]
        self._to = [(name, name or BARE_OUTPUT) for name in self.outputs]

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """The outputs for arrays of shape [batch, ...] by name.

        Raises:
            DataError: an input is missing or does not have the shape of the model's.
        """
        try:
            tensors = {key: tf.constant(inputs[name], dtype) for name, key, dtype in self._from}
            result = self._function(**tensors)
        except (KeyError, ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
            raise self._misfit(inputs) from error
        return {name: result[key].numpy() for name, key in self._to}

    def extras(self, inputs: Mapping[str, Any]) -> Extras:
        """What losses depend on besides the outputs; runs the model a second time, if it has such things."""
        if not has_extras(self.graph):
            return Extras()
        tensors = {name: tf.constant(inputs[name], dtype) for name, _, dtype in self._from}
        outputs = self.graph(tensors, training=False)
        masks = {name: mask_of(value) for name, value in outputs.items()}
        return Extras(
            penalty=float(self.graph.penalty()),
            masks={name: mask.numpy() for name, mask in masks.items() if mask is not None},
        )

    def _misfit(self, inputs: Mapping[str, Any]) -> DataError:
        wanted = ", ".join(
            f"{name or 'one array'} [batch, {_shape(spec)}] {spec.dtype}" for name, spec in self.inputs.items()
        )
        given = ", ".join(
            f"{name or 'one array'} {list(np.shape(value))} {np.asarray(value).dtype}" for name, value in inputs.items()
        )
        return DataError(f"The model takes {wanted}, and was given {given or 'nothing'}.")


def takes(model: ModelDir, graph: Model, inputs: Iterable[str]) -> bool:
    """Whether data with these inputs is for a model: it has all of them, and others only if they were for training."""
    given, wanted = set(inputs), set(graph.inputs)
    return wanted <= given <= wanted | set(inputs_of(model.about["signature"]))


def has_extras(graph: Model) -> bool:
    """Whether losses depend on more than the outputs; of a Keras model, it may be."""
    return graph.scores if isinstance(graph, ServedModel) else True


def _shape(spec: ColumnSpec) -> str:
    return ", ".join("any" if size is None else str(size) for size in spec.shape)


def _compiled(graph: Graph) -> Callable[..., Any]:
    arguments = argument_names(graph.inputs)

    def serve(**inputs: Any) -> dict[str, Any]:
        named = {name: inputs[argument] for name, argument in arguments.items()}
        return {name or BARE_OUTPUT: value for name, value in graph(named, training=False).items()}

    return tf.function(serve, autograph=False).get_concrete_function(**graph.argument_specs())  # type: ignore[no-any-return]
