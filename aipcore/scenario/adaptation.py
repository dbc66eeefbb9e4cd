"""The adaptation of preprocessing to the training data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, reduce
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aipcore.data.dataset import Dataset
from aipcore.data.sample import ColumnSpec
from aipcore.data.sampler import Visits
from aipcore.data.streamed import StreamDataset
from aipcore.errors import AipError, ScenarioError, located_sentence
from aipcore.scenario.model import argument_names
from aipcore.scenario.preprocessing import Preprocessing, used_tables
from aipcore.scenario.scenario import Scenario

BATCH_SIZE = 1000
"""Samples per batch while layers are adapted."""

MOST_OF_A_STREAM = 100_000
"""Samples of a stream to which preprocessing is adapted by default."""

Take = Callable[[Mapping[str, Any]], Any]
"""Maps the inputs of a batch, tensors by name, to the part that a layer receives."""


def adapted_preprocessing(scenario: Scenario, dataset: Dataset) -> Preprocessing | None:
    """Return the preprocessing of a scenario, adapted to the training data, or None without any.

    It computes in float32, whatever the precision of the model is.

    Args:
        scenario: the scenario.
        dataset: the training samples.

    Raises:
        ScenarioError: it cannot be adapted to the data, or does not return tensors.
    """
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        given = scenario.preprocessing()
        return None if given is None else _adapted(given, dataset, scenario)
    finally:
        keras.config.set_dtype_policy(policy)


def _adapted(given: Any, dataset: Dataset, scenario: Scenario) -> Preprocessing:
    called = f"{type(scenario).__name__}.preprocessing()"
    inputs = dataset.specs()[0]
    _check_kind(given, inputs, called)
    batches = _Batches(dataset, scenario.params.train.adapt_samples)
    try:
        done = _adapt(given, inputs, batches)
        _check_adapted(given, done, called)
        made = _traced(given, inputs)
    except AipError:
        raise
    except Exception as error:
        raise ScenarioError(
            f"{called} cannot take the data's inputs ({_described(inputs)}): {located_sentence(error)}"
        ) from error
    made.about = type(given).__name__ if not isinstance(given, Mapping) else _kinds(given)
    if done:
        made.about += f", adapted to {batches.describe()}"
    return made


def _check_kind(given: Any, inputs: Mapping[str, ColumnSpec], called: str) -> None:
    """Check the type of preprocessing, and that its named inputs exist.

    Raises:
        ScenarioError: it is of another type, or names an input that the data does not have.
    """
    names: Sequence[str] = ()
    if isinstance(given, keras.utils.FeatureSpace):
        names = list(given.features)
    elif isinstance(given, Mapping) and all(isinstance(each, keras.layers.Layer) for each in given.values()):
        names = list(given)
    elif not isinstance(given, keras.layers.Layer):
        raise ScenarioError(
            f"{called} returned {type(given).__name__}. Return a Keras layer or model, a keras.utils.FeatureSpace, or "
            "a mapping from the name of an input to its layer."
        )
    unknown = [name for name in names if name not in inputs]
    if unknown and "" in inputs:
        raise ScenarioError(
            f"{called} names the input {unknown[0]!r}, but the input of the data has no name. Return the layer alone, "
            "or return the inputs of the data as a mapping by name."
        )
    if unknown:
        raise ScenarioError(
            f"{called} names the input {unknown[0]!r}, but the data has {', '.join(map(repr, inputs))}. Name an input "
            "of the data."
        )


class _Batches:
    """The inputs of the training samples to adapt to, as often as needed.

    Args:
        dataset: the training samples.
        most: the number of samples to use, from the first one on; None: all, but only the first ones of a stream.
    """

    def __init__(self, dataset: Dataset, most: int | None) -> None:
        self._dataset, self._most, self._step = dataset, most, BATCH_SIZE
        if isinstance(dataset, StreamDataset) and dataset.nominal and dataset.batch_size is not None:
            # Batches of the source are not divided.
            self._step = max(1, BATCH_SIZE // dataset.batch_size) * dataset.batch_size
        self._read_samples = 0
        self._specs = {
            name: tf.TensorSpec((None, *spec.shape), spec.dtype) for name, spec in dataset.specs()[0].items()
        }

    @cached_property
    def _count(self) -> int:
        dataset, most = self._dataset, self._most
        if isinstance(dataset, StreamDataset):
            return dataset.length_of_a_pass(most or MOST_OF_A_STREAM)
        return min(most or len(dataset), len(dataset))

    def describe(self) -> str:
        """Return the number of samples that were read, and how to change it."""
        dataset = self._dataset
        if self._count == (dataset.length if isinstance(dataset, StreamDataset) else len(dataset)):
            return f"{self._read_samples:,} training samples"
        return f"the first {self._read_samples:,} training samples (train.adapt_samples)"

    def of(self, take: Take) -> tf.data.Dataset:
        """Return the batches of a part of the inputs."""
        return tf.data.Dataset.from_generator(self._read, output_signature=self._specs).map(take)

    def columns(self, names: Sequence[str]) -> dict[str, Any]:
        """Return some of the inputs as arrays of shape [samples, ...]."""
        read = [{name: np.asarray(inputs[name]) for name in names} for inputs in self._read()]
        return {name: np.concatenate([part[name] for part in read]) for name in names}

    def _read(self) -> Iterator[Mapping[str, Any]]:
        starts = range(0, self._count, self._step)
        parts = (np.arange(start, min(start + self._step, self._count)) for start in starts)
        samples = 0
        for batch in self._dataset.batches(Visits(indices=part, epochs=np.zeros_like(part)) for part in parts):
            size = len(next(iter(batch.inputs.values())))
            samples += size
            # All samples of a batch may have been skipped.
            if size:
                yield batch.inputs
        self._read_samples = samples


def _adapt(given: Any, inputs: Mapping[str, ColumnSpec], batches: _Batches) -> list[Any]:
    """Adapt all layers that have a state; return them."""
    if isinstance(given, Mapping):
        return [
            each
            for name, layer in given.items()
            for each in _adapt_layer(layer, batches, lambda x, name=name: x[name])  # type: ignore[misc]
        ]
    if isinstance(given, keras.utils.FeatureSpace):
        # It reads the first batch and then all batches for each feature, so they are read only once here.
        columns = batches.columns(list(given.features))
        given.adapt(tf.data.Dataset.from_tensor_slices(columns).batch(BATCH_SIZE))
        return list(given.preprocessors.values())
    return _adapt_layer(given, batches, lambda x: x[""] if "" in inputs else x)


def _adapt_layer(layer: Any, batches: _Batches, take: Take) -> list[Any]:
    if isinstance(layer, keras.Sequential):
        found: list[Any] = []
        for position, inner in enumerate(layer.layers):
            before = layer.layers[:position]
            found += _adapt_layer(inner, batches, lambda x, b=before: reduce(_call, b, take(x)))  # type: ignore[misc]
        return found
    if isinstance(layer, keras.Model):
        found = []
        for inner in layer.layers:
            if _is_adaptable(inner):
                model = keras.Model(layer.input, inner.input)
                found += _adapt_layer(inner, batches, lambda x, model=model: model(take(x)))  # type: ignore[misc]
        return found
    if not _is_adaptable(layer):
        return []
    data = batches.of(take)
    if isinstance(layer, keras.layers.Normalization) and data.element_spec.shape.rank == 1:
        # Of a tf.data.Dataset, it would stack whole batches.
        data = np.concatenate(list(data.as_numpy_iterator()))
    layer.adapt(data)
    return [layer]


def _call(value: Any, layer: Any) -> Any:
    return layer(value)


def _is_adaptable(layer: Any) -> bool:
    """Return True if a layer needs `adapt`: it has that method, and its state was not given in its constructor."""
    if not hasattr(layer, "adapt") or getattr(layer, "_has_input_vocabulary", False):
        return False
    if isinstance(layer, keras.layers.Discretization):
        return layer.num_bins is not None
    return getattr(layer, "input_mean", None) is None


def _check_adapted(given: Any, done: Sequence[Any], called: str) -> None:
    """Check that no layer was left out.

    Raises:
        ScenarioError: a layer inside a layer was not adapted.
    """
    if isinstance(given, keras.utils.FeatureSpace):
        return
    adapted = {id(each) for layer in done for each in layer._flatten_layers()}
    for layer in given.values() if isinstance(given, Mapping) else [given]:
        for each in layer._flatten_layers():
            if _is_adaptable(each) and id(each) not in adapted:
                raise ScenarioError(
                    f"{called} contains the layer {each.name!r} inside another layer or model, where it is not "
                    "adapted. Place it in the outermost model, or adapt it before."
                )


def _traced(given: Any, inputs: Mapping[str, ColumnSpec]) -> Preprocessing:
    arguments = argument_names(inputs)
    outputs: dict[str, ColumnSpec] = {}

    def run(**values: Any) -> dict[str, Any]:
        named = {name: values[argument] for name, argument in arguments.items()}
        # On the host: lookup tables and strings exist only there.
        with tf.device("CPU:0"):
            found = {name: _dense(value) for name, value in _applied(given, named).items()}
        outputs.update(
            {name: ColumnSpec(shape=tuple(each.shape[1:]), dtype=each.dtype.name) for name, each in found.items()}
        )
        return {argument: found[name] for name, argument in argument_names(found).items()}

    specs = {
        argument: tf.TensorSpec((None, *inputs[name].shape), inputs[name].dtype, name=argument)
        for name, argument in arguments.items()
    }
    function = tf.function(run, autograph=False).get_concrete_function(**specs)
    return Preprocessing(
        function, inputs, outputs, _needs(function, inputs, outputs), tracked=_state_of(given, function)
    )


def _needs(function: Any, inputs: Iterable[str], outputs: Iterable[str]) -> dict[str, list[str]]:
    """Return, for each output of a traced function, the names of the inputs that it depends on."""
    found = {}
    for output, argument in argument_names(outputs).items():
        seen: set[Any] = set()
        pending = [function.structured_outputs[argument].op]
        while pending:
            if (operation := pending.pop()) not in seen:
                seen.add(operation)
                # Control inputs, such as the order of lookups, do not affect values.
                pending += [each.op for each in operation.inputs]
        names = {operation.name for operation in seen if operation.type == "Placeholder"}
        found[output] = [name for name, argument in argument_names(inputs).items() if argument in names]
    return found


def _applied(given: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return {name: given[name](value) if name in given else value for name, value in inputs.items()}
    if isinstance(given, keras.utils.FeatureSpace):
        found = given({name: inputs[name] for name in given.features})
    else:
        value = inputs[""] if "" in inputs else dict(inputs)
        found = given(value, training=False) if isinstance(given, keras.Model) else given(value)
    return {str(name): each for name, each in found.items()} if isinstance(found, Mapping) else {"": found}


def _state_of(given: Any, function: Any) -> list[Any]:
    """Return the lookup tables and the variables of preprocessing that its traced function uses."""
    layers = [given]
    if isinstance(given, keras.utils.FeatureSpace):
        layers = [*given.preprocessors.values(), *given.crossers.values(), *given.one_hot_encoders.values()]
    elif isinstance(given, Mapping):
        layers = list(given.values())
    used = {id(variable) for variable in function.variables}
    variables = [variable.value for layer in layers for variable in layer.variables]
    return [*used_tables(layers, [function]), *(each for each in variables if id(each) in used)]


def _dense(value: Any) -> Any:
    if isinstance(value, tf.RaggedTensor):
        return value.to_tensor()
    return tf.sparse.to_dense(value) if isinstance(value, tf.SparseTensor) else tf.convert_to_tensor(value)


def _described(inputs: Mapping[str, ColumnSpec]) -> str:
    return ", ".join(f"{name or 'inputs'} {spec.shape} {spec.dtype}" for name, spec in inputs.items())


def _kinds(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{type(layer).__name__} of {name or 'the input'}" for name, layer in given.items())
