"""The model of a scenario: its Keras graph, and calling it with named tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import attrs
import keras
import tensorflow as tf

from aipcore.data.dataset import Dataset
from aipcore.data.specs import ColumnSpec
from aipcore.errors import ScenarioError
from aipcore.scenario.paths import name_variables
from aipcore.scenario.scenario import Scenario

BARE_INPUT = "inputs"
BARE_OUTPUT = "outputs"


class GraphLike(Protocol):
    """What evaluation needs of a model: a `Graph`, or an exported one."""

    def __call__(self, inputs: Mapping[str, Any], *, training: bool) -> dict[str, Any]:
        """Runs the model on tensors of shape [batch, ...] by name."""

    def penalty(self) -> Any:
        """What regularizers and `add_loss` gave in the last call, a float32 scalar."""


@attrs.frozen(kw_only=True, eq=False)
class Graph:
    """A Keras model whose inputs and outputs are addressed by name.

    Attributes:
        model: takes one tensor or a dict of tensors, as the scenario's data does.
        inputs: the spec of each input, by name; a bare input has the name "".
        outputs: the names of the outputs; a bare output has the name "".
    """

    model: Any
    inputs: dict[str, ColumnSpec]
    outputs: list[str]

    def __call__(self, inputs: Mapping[str, Any], *, training: bool) -> dict[str, Any]:
        """Runs the model on tensors of shape [batch, ...] by name."""
        # Data may have inputs that only the trained model takes.
        given = inputs[""] if self.bare_input else {name: inputs[name] for name in self.inputs}
        result = self.model(given, training=training)
        return {"": result} if self.bare_output else result

    def output_shape(self, name: str) -> tuple[int | None, ...]:
        """The shape of an output, the batch axis included, with None where it varies."""
        output = self.model.output if self.bare_output else self.model.output[name]
        return tuple(output.shape)

    def penalty(self) -> Any:
        """The sum of what regularizers and `add_loss` gave in the last call, a float32 scalar."""
        return tf.add_n([tf.cast(loss, tf.float32) for loss in self.model.losses] or [tf.constant(0.0)])

    @property
    def bare_input(self) -> bool:
        """Whether the model takes one tensor instead of a mapping."""
        return "" in self.inputs

    @property
    def bare_output(self) -> bool:
        """Whether the model returns one tensor instead of a mapping."""
        return "" in self.outputs


def signature_of(graph: Graph) -> dict[str, Any]:
    """The inputs and outputs of a model as JSON, so that it can be built again without data."""
    return {
        "inputs": {name: {"shape": list(spec.shape), "dtype": spec.dtype} for name, spec in graph.inputs.items()},
        "outputs": list(graph.outputs),
    }


def signatures_of(trained: Graph, applied: Graph) -> dict[str, Any]:
    """What a record says of the model that is trained, and of the one that is applied if that is another."""
    signatures = {"signature": signature_of(trained)}
    return signatures if applied is trained else {**signatures, "prediction_signature": signature_of(applied)}


def applied_signature(about: Mapping[str, Any]) -> Mapping[str, Any]:
    """The inputs and outputs of the model that a record is of, as it is applied."""
    signature: Mapping[str, Any] = about.get("prediction_signature", about["signature"])
    return signature


def trained_outputs(about: Mapping[str, Any]) -> list[str]:
    """The outputs that the model of a record had in training, which losses and metrics go by."""
    return [str(name) for name in about["signature"]["outputs"]]


def inputs_of(signature: Mapping[str, Any]) -> dict[str, ColumnSpec]:
    """The specs of the inputs that `signature_of` gave."""
    return {
        str(name): ColumnSpec(shape=tuple(spec["shape"]), dtype=str(spec["dtype"]))
        for name, spec in signature["inputs"].items()
    }


def block_signature(specs: Mapping[str, ColumnSpec], *, axes: int) -> dict[str, Any]:
    """What a compiled function is told of its columns: `axes` leading axes of any length, then the sample's shape.

    With it a function is traced once, whatever the number of batches in a block and of samples in a batch.
    """
    return {name: tf.TensorSpec((*[None] * axes, *spec.shape), spec.dtype) for name, spec in specs.items()}


def build_graph(scenario: Scenario, dataset: Dataset) -> Graph:
    """Builds the scenario's model for the inputs that its data has.

    Raises:
        ScenarioError: `build` fails, returns something that is no tensor or mapping of tensors, or gives two
            variables one path.
    """
    return build_graph_of(scenario, dataset.specs()[0])


def build_graph_of(scenario: Scenario, specs: Mapping[str, ColumnSpec]) -> Graph:
    """Builds the scenario's model for inputs of these shapes and types.

    Raises:
        ScenarioError: see `build_graph`.
    """
    inputs = {name: keras.Input(spec.shape, dtype=spec.dtype, name=name or BARE_INPUT) for name, spec in specs.items()}
    given: Any = inputs[""] if "" in inputs else dict(inputs)
    name = type(scenario).__name__
    try:
        outputs = scenario.build(given)
    except ValueError as error:
        shapes = ", ".join(f"{key or BARE_INPUT} {spec.shape} {spec.dtype}" for key, spec in specs.items())
        reason = " ".join(str(error).split())
        raise ScenarioError(f"{name}.build() cannot take the data's inputs ({shapes}): {reason}") from error
    if isinstance(outputs, Mapping):
        outputs = {str(key): value for key, value in outputs.items()}
    elif not isinstance(outputs, keras.KerasTensor):
        raise ScenarioError(
            f"{name}.build() returned {type(outputs).__name__}: return a tensor or a mapping from name to tensor."
        )
    model = keras.Model(given, outputs)
    name_variables(model)
    return Graph(model=model, inputs=dict(specs), outputs=list(outputs) if isinstance(outputs, dict) else [""])


def prediction_graph(scenario: Scenario, graph: Graph) -> Graph:
    """The model that is applied: what the scenario makes of the trained one, or that itself.

    Raises:
        ScenarioError: `build_prediction` returns something else than a model of the trained layers.
    """
    model = scenario.build_prediction(graph.model)
    if model is None:
        return graph
    called = f"{type(scenario).__name__}.build_prediction()"
    if not isinstance(model, keras.Model):
        raise ScenarioError(f"{called} returned {type(model).__name__}: return a keras.Model, or None.")
    trained = {id(variable) for variable in graph.model.variables}
    for variable in model.variables:
        if id(variable) not in trained:
            raise ScenarioError(
                f"The model of {called} has the variable {variable.path}, which is not trained: take its layers from "
                "model.get_layer(NAME)."
            )
    inputs, outputs = (_by_name(side, called) for side in (model.input, model.output))
    unknown = [name for name in inputs if name not in graph.inputs]
    if unknown:
        known = ", ".join(name or "one array" for name in graph.inputs)
        raise ScenarioError(
            f"The model of {called} takes the input {unknown[0] or 'without a name'}, but the data has {known}: "
            "make it with keras.Model({'NAME': model.input['NAME'], ...}, ...)."
        )
    return Graph(model=model, inputs={name: graph.inputs[name] for name in inputs}, outputs=list(outputs))


def _by_name(side: Any, called: str) -> dict[str, Any]:
    if isinstance(side, Mapping):
        return {str(name): tensor for name, tensor in side.items()}
    if isinstance(side, keras.KerasTensor):
        return {"": side}
    raise ScenarioError(
        f"The model of {called} has a list of inputs or outputs: make it with one tensor or a mapping by name each."
    )
