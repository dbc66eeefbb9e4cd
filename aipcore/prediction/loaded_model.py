"""A single loaded model: arrays to arrays, with little overhead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from aipcore.data.sample import ColumnSpec
from aipcore.data.strings import as_objects, type_of
from aipcore.errors import DataError
from aipcore.prediction.locate import ModelDir
from aipcore.prediction.rebuilt_model import rebuild
from aipcore.prediction.served_model import ServedModel
from aipcore.scenario.losses import mask_of
from aipcore.scenario.model import BARE_OUTPUT, Graph, argument_names, inputs_of
from aipcore.scenario.scenario import Scenario
from aipcore.training.export.saved_model import MASK, OUTPUT

Array = npt.NDArray[Any]
Model = Graph | ServedModel


def load_graph(model: ModelDir, scenario: Scenario) -> Model:
    """Load a SavedModel, or build the model of a checkpoint.

    Raises:
        UsageError: the model is damaged, or does not fit its record or scenario.
    """
    return ServedModel(model) if model.kind == "model" else rebuild(model, scenario).graph


@attrs.frozen(kw_only=True, eq=False)
class Extras:
    """Inputs of the losses besides the outputs of a batch: a penalty, and masks of shape [batch, ...] by output."""

    penalty: float = 0.0
    masks: dict[str, Array] = attrs.field(factory=dict)


class LoadedModel:
    """A loaded model.

    Attributes:
        graph: model.
        inputs: spec of each input; a single unnamed input has the name "".
        outputs: names of the outputs; a single unnamed output has the name "".
    """

    def __init__(self, graph: Model) -> None:
        self.graph = graph
        self.inputs: dict[str, ColumnSpec] = graph.inputs
        self.outputs = list(graph.outputs)
        self._function: Any
        if isinstance(graph, ServedModel):
            masked = graph.masked
            self._function = graph.score if masked else graph.signature
            prefix = OUTPUT if masked else ""
        else:
            self._function = _compiled(graph)
            masked = [name for name in self.outputs if _mask(name) in self._function.structured_outputs]
            prefix = OUTPUT
        arguments = argument_names(self.inputs)
        self._from = [(name, arguments[name], spec.dtype) for name, spec in self.inputs.items()]
        self._to = [(name, f"{prefix}{name or BARE_OUTPUT}") for name in self.outputs]
        self._masks = [(name, _mask(name)) for name in masked]

    def run(self, inputs: Mapping[str, Any]) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return the outputs for arrays of shape [batch, ...] by name, and the Keras masks of some of them.

        Raises:
            DataError: an input is missing or has the wrong shape.
        """
        try:
            tensors = {key: tf.constant(inputs[name], dtype) for name, key, dtype in self._from}
            result = self._function(**tensors)
        except (KeyError, ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
            raise self._misfit(inputs) from error
        outputs, masks = ({name: result[key].numpy() for name, key in names} for names in (self._to, self._masks))
        return outputs, masks

    def padded(self) -> list[str]:
        """Return the outputs that have a position for each padded input position, and no mask."""
        if not any(spec.shape and spec.shape[0] is None for spec in self.inputs.values()):
            return []
        shapes = {name: self._function.structured_outputs[key].shape for name, key in self._to}
        masked = dict(self._masks)
        return [name for name, shape in shapes.items() if name not in masked and len(shape) > 1 and shape[1] is None]

    def extras(self, inputs: Mapping[str, Any]) -> Extras:
        """Return the inputs of the losses besides the outputs. Runs the model a second time if there are any."""
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
            f"{name or 'one array'} {list(np.shape(value))} {type_of(as_objects(value))}"
            for name, value in inputs.items()
        )
        return DataError(f"The model takes {wanted}, but was given {given or 'nothing'}.")


def takes(model: ModelDir, graph: Model, inputs: Iterable[str]) -> bool:
    """Return True if data with these inputs fits a model: none is missing, and extra ones are for training only."""
    given, wanted = set(inputs), set(graph.inputs)
    return wanted <= given <= wanted | set(inputs_of(model.about["signature"]))


def has_extras(graph: Model) -> bool:
    """Return True if losses depend on more than the outputs. For a Keras model, True means that they may."""
    return graph.scores if isinstance(graph, ServedModel) else True


def _mask(output: str) -> str:
    return f"{MASK}{output or BARE_OUTPUT}"


def _shape(spec: ColumnSpec) -> str:
    return ", ".join("any" if size is None else str(size) for size in spec.shape)


def _compiled(graph: Graph) -> Any:
    arguments = argument_names(graph.inputs)

    def serve(**inputs: Any) -> dict[str, Any]:
        named = {name: inputs[argument] for name, argument in arguments.items()}
        outputs = graph(named, training=False)
        masks = {name: mask_of(value) for name, value in outputs.items()}
        return {
            **{f"{OUTPUT}{name or BARE_OUTPUT}": value for name, value in outputs.items()},
            **{_mask(name): mask for name, mask in masks.items() if mask is not None},
        }

    return tf.function(serve, autograph=False).get_concrete_function(**graph.argument_specs())
