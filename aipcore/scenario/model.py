"""The model of a scenario: its Keras graph, called with named tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import attrs
import keras
import tensorflow as tf

from aipcore.data.dataset import Dataset
from aipcore.data.sample import ColumnSpec
from aipcore.errors import AipError, ScenarioError, defined_at, located_sentence
from aipcore.scenario.keras_names import refuse_own_step
from aipcore.scenario.paths import name_variables
from aipcore.scenario.record import DEFAULT_GRAPH
from aipcore.scenario.scenario import Scenario

BARE_INPUT = "inputs"
BARE_OUTPUT = "outputs"

_GRAPH_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

LAYER_NAME = r"[A-Za-z0-9_.\\>-]*"
"""Layer names that TensorFlow accepts as a scope; Keras itself rejects only `/`."""


class GraphLike(Protocol):
    """A model for evaluation: a `Graph` or an exported model."""

    def __call__(self, inputs: Mapping[str, Any], *, training: bool) -> dict[str, Any]:
        """Run the model on tensors of shape [batch, ...] by name."""

    def penalty(self) -> Any:
        """Return the loss of regularizers and `add_loss` from the last call, a float32 scalar."""


@attrs.frozen(kw_only=True, eq=False)
class Graph:
    """A Keras model whose inputs and outputs are addressed by name.

    Attributes:
        model: the Keras model; takes one tensor or a dict of tensors, as the scenario's data does.
        inputs: the spec of each input, by name; a bare input has the name "".
        outputs: the names of the outputs; a bare output has the name "".
    """

    model: Any
    inputs: dict[str, ColumnSpec]
    outputs: list[str]

    def __call__(self, inputs: Mapping[str, Any], *, training: bool) -> dict[str, Any]:
        """Run the model on tensors of shape [batch, ...] by name."""
        # Data may have inputs that only the trained model takes.
        arguments = argument_names(self.inputs)
        given = inputs[""] if self.bare_input else {argument: inputs[name] for name, argument in arguments.items()}
        result = self.model(given, training=training)
        return {"": result} if self.bare_output else result

    def output_shape(self, name: str) -> tuple[int | None, ...]:
        """Return the shape of an output including the batch axis, with None where it varies."""
        output = self.model.output if self.bare_output else self.model.output[name]
        return tuple(output.shape)

    def penalty(self) -> Any:
        """Return the summed loss of regularizers and `add_loss` from the last call, a float32 scalar."""
        return tf.add_n([tf.reduce_sum(tf.cast(loss, tf.float32)) for loss in self.model.losses] or [tf.constant(0.0)])

    def argument_specs(self, batch_size: int | None = None) -> dict[str, Any]:
        """Return the `tf.TensorSpec` of each input, by its name in the serving signature."""
        return {
            argument: tf.TensorSpec((batch_size, *self.inputs[name].shape), self.inputs[name].dtype, name=argument)
            for name, argument in argument_names(self.inputs).items()
        }

    @property
    def bare_input(self) -> bool:
        """True if the model takes one tensor instead of a mapping."""
        return "" in self.inputs

    @property
    def bare_output(self) -> bool:
        """True if the model returns one tensor instead of a mapping."""
        return "" in self.outputs


def argument_names(inputs: Iterable[str]) -> dict[str, str]:
    """Return the name of each input in Keras and in the serving signature.

    Keras allows no `/`, and TensorFlow turns everything but letters and digits into `_` (`pixel_values` for
    `pixel values`, `arg_1st` for `1st`). An input's name does not depend on the other inputs.

    Raises:
        ScenarioError: two inputs would have the same name.
    """
    names: dict[str, str] = {}
    for name in inputs:
        argument = re.sub(r"[^0-9A-Za-z_]", _written_out, name) if name else BARE_INPUT
        # `self` is the first argument of the serving function.
        argument = argument if argument[0].isalpha() and argument != "self" else f"arg_{argument}"
        if argument in names.values():
            other = next(known for known, taken in names.items() if taken == argument)
            raise ScenarioError(
                f"The inputs {other!r} and {name!r} would both be called {argument!r} in the exported model. Rename "
                "one of them."
            )
        names[name] = argument
    return names


def _written_out(character: re.Match[str]) -> str:
    # Some formats allow only ASCII names.
    return f"u{ord(character[0]):04x}" if character[0].isalnum() else "_"


def signature_of(graph: Graph) -> dict[str, Any]:
    """Return the inputs and outputs of a model as JSON, so that it can be built again without data."""
    return {
        "inputs": {name: {"shape": list(spec.shape), "dtype": spec.dtype} for name, spec in graph.inputs.items()},
        "outputs": list(graph.outputs),
    }


def signatures_of(trained: Graph, applied: Graph, further: Mapping[str, Graph]) -> dict[str, Any]:
    """Return the signatures for a record: the trained model, the applied one if different, and further graphs."""
    signatures: dict[str, Any] = {"signature": signature_of(trained)}
    if applied is not trained:
        signatures["prediction_signature"] = signature_of(applied)
    if further:
        signatures["graphs"] = {name: signature_of(graph) for name, graph in further.items()}
    return signatures


def applied_signature(about: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the recorded inputs and outputs of the applied model."""
    signature: Mapping[str, Any] = about.get("prediction_signature", about["signature"])
    return signature


def trained_outputs(about: Mapping[str, Any]) -> list[str]:
    """Return the recorded outputs of the trained model, to which losses and metrics refer."""
    return [str(name) for name in about["signature"]["outputs"]]


def inputs_of(signature: Mapping[str, Any]) -> dict[str, ColumnSpec]:
    """Return the input specs of a signature from `signature_of`."""
    return {
        str(name): ColumnSpec(shape=tuple(spec["shape"]), dtype=str(spec["dtype"]))
        for name, spec in signature["inputs"].items()
    }


def block_signature(specs: Mapping[str, ColumnSpec], *, axes: int) -> dict[str, Any]:
    """Return the column specs for a compiled function: `axes` leading axes of any length, then the sample's shape.

    With it a function is traced once for any number of batches in a block and of samples in a batch.
    """
    return {name: tf.TensorSpec((*[None] * axes, *spec.shape), spec.dtype) for name, spec in specs.items()}


def build_graph(scenario: Scenario, dataset: Dataset) -> Graph:
    """Build the scenario's model for the inputs of its data.

    Raises:
        ScenarioError: `build` fails, does not return a tensor or a mapping of tensors, or gives two variables the same
            path.
    """
    return build_graph_of(scenario, dataset.specs()[0])


def build_graph_of(scenario: Scenario, specs: Mapping[str, ColumnSpec]) -> Graph:
    """Build the scenario's model for inputs of these shapes and dtypes.

    Raises:
        ScenarioError: see `build_graph`.
    """
    arguments = argument_names(specs)
    inputs = {name: keras.Input(spec.shape, dtype=spec.dtype, name=arguments[name]) for name, spec in specs.items()}
    given: Any = inputs[""] if "" in inputs else dict(inputs)
    name = type(scenario).__name__
    try:
        outputs = scenario.build(given)
    except AipError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{key or BARE_INPUT} {spec.shape} {spec.dtype}" for key, spec in specs.items())
        raise ScenarioError(
            f"{name}.build() does not accept the inputs of the data ({shapes}): {located_sentence(error)}"
        ) from error
    where = f"{name}.build() ({defined_at(scenario.build)})"
    if isinstance(outputs, Mapping) and outputs:
        outputs = {str(key): value for key, value in outputs.items()}
        for key, value in outputs.items():
            _check_output(value, f"{where} returned, for the output {key!r},")
    else:
        _check_output(outputs, f"{where} returned")
    tensors = inputs[""] if "" in inputs else {arguments[key]: tensor for key, tensor in inputs.items()}
    try:
        model = keras.Model(tensors, outputs)
    except Exception as error:
        if (twice := re.search(r'The name "(.*?)" is used \d+ times', str(error))) is not None:
            raise ScenarioError(
                f"{where} gives two layers the name {twice[1]!r}. Give each layer a unique name. Inputs count as "
                "layers."
            ) from error
        raise ScenarioError(
            f"{where} returned outputs that do not form a model with its inputs: {located_sentence(error)}"
        ) from error
    for layer in model._flatten_layers(include_self=False):
        if not (isinstance(layer, keras.layers.InputLayer) or re.fullmatch(LAYER_NAME, layer.name)):
            raise ScenarioError(
                f"{where} gives a layer the name {layer.name!r}, which TensorFlow does not accept. Use only ASCII "
                "letters, digits and the characters _.-> in names."
            )
        refuse_own_step(layer, where)
        if layer._metrics:
            raise ScenarioError(
                f"{where}: the layer {layer.name!r} contains the metric {layer._metrics[0].name!r}, which aip does not "
                "compute. Make its value an output of the model, and return a metric of that output from metrics()."
            )
    name_variables(model)
    return Graph(model=model, inputs=dict(specs), outputs=list(outputs) if isinstance(outputs, dict) else [""])


def _check_output(value: Any, returned: str) -> None:
    """Check that an output of `build` is a tensor computed by Keras from the inputs.

    Raises:
        ScenarioError: it is not; the error shows the usual way to return a tensor.
    """
    if isinstance(value, keras.KerasTensor):
        return
    kind = type(value).__name__
    if isinstance(value, keras.Model):
        raise ScenarioError(f"{returned} a keras.Model. Return its outputs: return model(inputs).")
    if isinstance(value, keras.layers.Layer) or (isinstance(value, type) and issubclass(value, keras.layers.Layer)):
        raise ScenarioError(f"{returned} the layer {getattr(value, '__name__', kind)}. Call it on a tensor.")
    if value is None:
        raise ScenarioError(f"{returned} None. Return the outputs that it computes from the inputs.")
    if isinstance(value, list | tuple | Mapping):
        empty = "" if value else "n empty"
        raise ScenarioError(
            f"{returned} a{empty} {kind}. Return a tensor, or a mapping from the name of each output to its tensor."
        )
    raise ScenarioError(
        f"{returned} a value of type {kind}. Return a tensor that Keras layers or keras.ops compute from the inputs."
    )


def symbolic_targets_and_outputs(graph: Graph, dataset: Dataset) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the targets of the data and the outputs of the model as symbolic tensors by name, None where they vary."""
    specs = dataset.specs()[1]
    targets = {name: keras.KerasTensor((None, *spec.shape), dtype=spec.dtype) for name, spec in specs.items()}
    return targets, {"": graph.model.output} if graph.bare_output else dict(graph.model.output)


def prediction_graph(scenario: Scenario, graph: Graph) -> Graph:
    """Return the applied model: the one of `build_prediction`, or the trained model.

    Raises:
        ScenarioError: `build_prediction` does not return a model of the trained layers.
    """
    model = scenario.build_prediction(graph.model)
    if model is None:
        return graph
    called = f"{type(scenario).__name__}.build_prediction()"
    if not isinstance(model, keras.Model):
        raise ScenarioError(f"{called} returned {type(model).__name__}. Return a keras.Model, or None.")
    inputs, outputs = _sides(model, graph, called)
    unknown = [name for name in inputs if name not in graph.inputs]
    if unknown:
        known = ", ".join(name or "one array" for name in graph.inputs)
        raise ScenarioError(
            f"The model of {called} takes the input {unknown[0] or 'without a name'}, but the data has {known}. "
            "Build it with keras.Model({'NAME': model.input['NAME'], ...}, ...)."
        )
    return Graph(model=model, inputs={name: graph.inputs[name] for name in inputs}, outputs=list(outputs))


def further_graphs(scenario: Scenario, graph: Graph) -> dict[str, Graph]:
    """Return the further exported models by name.

    An input with a name from the data is that input. Any other input was made by the scenario.

    Raises:
        ScenarioError: `export_graphs` does not return models of the trained layers by valid names.
    """
    kind = type(scenario).__name__
    given = scenario.export_graphs(graph.model)
    if not isinstance(given, Mapping):
        raise ScenarioError(
            f"{kind}.export_graphs() returned {type(given).__name__}. Return a mapping from name to keras.Model."
        )
    made = {}
    for name, model in given.items():
        if not isinstance(name, str) or not _GRAPH_NAME.fullmatch(name):
            raise ScenarioError(
                f"{kind}.export_graphs() returned the name {name!r}. A name must start with a letter and contain only "
                "letters, digits and _."
            )
        if name == DEFAULT_GRAPH:
            raise ScenarioError(
                f"{kind}.export_graphs() returned {name!r}, which is the name of the default graph. Use another name, "
                "or define build_prediction() to change the default graph."
            )
        called = f"{kind}.export_graphs()[{name!r}]"
        if not isinstance(model, keras.Model):
            raise ScenarioError(f"{called} is {type(model).__name__}. Return a keras.Model for each name.")
        inputs, outputs = _sides(model, graph, called)
        known = {id(tensor): name for name, tensor in _inputs_by_name(graph.model, graph, called).items()}
        for own, tensor in inputs.items():
            # The name determines the samples used to compare the export with the model.
            if known.get(id(tensor), own) != own or (own in graph.inputs and id(tensor) not in known):
                names = ", ".join(name or "one array without a name" for name in graph.inputs)
                raise ScenarioError(
                    f"The model of {called} takes the input {own or 'without a name'}. Inputs from the data must keep "
                    f"their names ({names}), and other inputs need different names. Build the model with "
                    "keras.Model({'NAME': model.input['NAME'], ...}, ...)."
                )
        specs = {own: ColumnSpec(shape=tuple(tensor.shape[1:]), dtype=tensor.dtype) for own, tensor in inputs.items()}
        made[name] = Graph(model=model, inputs=specs, outputs=list(outputs))
    return made


def _sides(model: Any, graph: Graph, called: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the inputs and outputs, by name, of a scenario's model of the trained layers."""
    trained = {id(variable) for variable in graph.model.variables}
    for variable in model.variables:
        if id(variable) not in trained:
            raise ScenarioError(
                f"The model of {called} has the variable {variable.path}, which is not part of the trained model. "
                "Take its layers from model.get_layer(NAME)."
            )
    if not hasattr(model, "input"):
        raise ScenarioError(
            f"The model of {called} is not a functional model. Build it with keras.Model(inputs, outputs)."
        )
    return _inputs_by_name(model, graph, called), _by_name(model.output, called)


def _inputs_by_name(model: Any, graph: Graph, called: str) -> dict[str, Any]:
    """Return the inputs of a model by their names in the data, where they come from there."""
    known_as = {argument: name for name, argument in argument_names(graph.inputs).items() if name}
    return {known_as.get(name, name): tensor for name, tensor in _by_name(model.input, called).items()}


def _by_name(side: Any, called: str) -> dict[str, Any]:
    if isinstance(side, Mapping):
        return {str(name): tensor for name, tensor in side.items()}
    if isinstance(side, keras.KerasTensor):
        return {"": side}
    raise ScenarioError(
        f"The model of {called} has a list of inputs or outputs. Build it with one tensor or a mapping by name instead."
    )


def by_output(given: Any, outputs: list[str], what: str, *, several: bool = False) -> dict[str, Any]:
    """Match a scenario's value (a single one, or a mapping by output name) with its outputs."""
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in outputs]
        if unknown:
            fix = "Name one of these."
            if outputs == [""]:
                fix = f"Return the value without a name, or return {{{unknown[0]!r}: ...}} from build()."
            raise ScenarioError(f"{what} names the output {unknown[0]!r}, but the model has {listed(outputs)}. {fix}")
        return dict(given)
    if several and not given:
        return {}
    if len(outputs) == 1:
        return {outputs[0]: given}
    raise ScenarioError(
        f"{what} must be a mapping by output name, since the model has several outputs: {', '.join(outputs)}."
    )


def listed(names: Iterable[str]) -> str:
    """Return the names of outputs or targets for an error; a bare one has the name ""."""
    return ", ".join(repr(name) for name in names if name) or "one output without a name"
