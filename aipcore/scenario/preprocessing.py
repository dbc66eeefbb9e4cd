"""Adapted preprocessing: Keras layers with a state from the training data, which run ahead of the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import keras
import numpy as np
import tensorflow as tf

from aipcore.data.dataset import Dataset
from aipcore.data.sample import ColumnSpec
from aipcore.data.sampler import Visits
from aipcore.data.streamed import StreamDataset
from aipcore.errors import AipError, ScenarioError, TrainingError, UsageError, located_sentence
from aipcore.files import read_json
from aipcore.scenario.model import Graph, argument_names

FOLDER = "preprocessing"
"""The folder of a run or a model that holds its adapted preprocessing."""

SPECS_FILE = "specs.json"

BATCH_SIZE = 1000
"""Samples per batch while layers are adapted."""


class Preprocessing(tf.Module):  # type: ignore[misc]
    """A function from the inputs of the data to the inputs of the model, with its state.

    Attributes:
        about: a description for the plan of the run.
    """

    def __init__(
        self, function: Any, inputs: Mapping[str, ColumnSpec], outputs: Mapping[str, ColumnSpec], *, tracked: Any = None
    ) -> None:
        super().__init__()
        self.function = function
        # A module tracks dicts, and wraps them.
        self._specs = (tuple(inputs.items()), tuple(outputs.items()))
        self.about = ""
        # A SavedModel contains what its module refers to.
        self._tracked = tracked

    @property
    def inputs(self) -> dict[str, ColumnSpec]:
        """The specs of the inputs of the data, by name."""
        return dict(self._specs[0])

    @property
    def outputs(self) -> dict[str, ColumnSpec]:
        """The specs of the inputs of the model, by name."""
        return dict(self._specs[1])

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs of the model for tensors of shape [batch, ...] by name."""
        given = {argument: tf.convert_to_tensor(inputs[name]) for name, argument in argument_names(self.inputs).items()}
        found = self.function(**given)
        return {name: found[argument] for name, argument in argument_names(self.outputs).items()}

    def on_host(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs of the model for arrays of shape [batch, ...] by name, as arrays."""
        with tf.device("CPU:0"):
            found = self({name: tf.constant(inputs[name], spec.dtype) for name, spec in self.inputs.items()})
        return {name: value.numpy() for name, value in found.items()}

    def save_in(self, run: Path) -> None:
        """Write the preprocessing to the folder of a run, unless it is there.

        Raises:
            TrainingError: the disk is full or not writable.
        """
        if (run / FOLDER / SPECS_FILE).is_file():
            return
        try:
            shutil.rmtree(run / FOLDER, ignore_errors=True)
            self.save(run / FOLDER)
        except (OSError, tf.errors.OpError) as error:
            reason = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
            raise TrainingError(
                f"The preprocessing could not be written to {run / FOLDER} ({reason}). Free disk space, or fix the "
                "permissions of the folder."
            ) from error

    def save(self, folder: Path) -> None:
        """Write the preprocessing to a new folder, as a SavedModel with the specs beside it."""
        tf.saved_model.save(self, str(folder), signatures={"serving_default": self.function})
        specs = {"inputs": _as_json(self.inputs), "outputs": _as_json(self.outputs), "about": self.about}
        (folder / SPECS_FILE).write_text(json.dumps(specs, indent=1), encoding="utf-8")


@attrs.frozen(kw_only=True, eq=False)
class PreprocessedGraph(Graph):
    """A graph that takes the inputs of the data.

    Attributes:
        inner: the graph that takes the preprocessed inputs.
        preprocessing: the preprocessing.
    """

    inner: Graph
    preprocessing: Preprocessing

    def __call__(self, inputs: Mapping[str, Any], *, training: bool) -> dict[str, Any]:
        """Run preprocessing and model on tensors of shape [batch, ...] by name."""
        return self.inner(self.preprocessing(inputs), training=training)


def with_preprocessing(graph: Graph, preprocessing: Preprocessing | None) -> Graph:
    """Return a graph that takes the inputs of the data; a graph with other inputs stays unchanged."""
    if preprocessing is None or not graph.inputs.keys() <= preprocessing.outputs.keys():
        return graph
    return PreprocessedGraph(
        model=graph.model,
        inputs=preprocessing.inputs,
        outputs=graph.outputs,
        inner=graph,
        preprocessing=preprocessing,
    )


def tables_of(model: Any) -> list[Any]:
    """Return the lookup tables of a layer and of the layers in it."""
    objects = tf.train.TrackableView(model).descendants()
    return [each for each in objects if isinstance(each, tf.saved_model.experimental.TrackableResource)]


def load_preprocessing(folder: Path) -> Preprocessing | None:
    """Read the preprocessing of a run or a model; None if it has none.

    Raises:
        UsageError: it is damaged.
    """
    if not (folder / SPECS_FILE).is_file():
        return None
    try:
        about = read_json(folder / SPECS_FILE)
        inputs, outputs = (_from_json(about[side]) for side in ("inputs", "outputs"))
        loaded = tf.saved_model.load(str(folder))
        # The function does not keep the tables alive.
        found = Preprocessing(loaded.signatures["serving_default"], inputs, outputs, tracked=loaded)
        found.about = str(about["about"])
    except Exception as error:
        # A damaged file causes many kinds of errors in TensorFlow.
        reason = " ".join(str(getattr(error, "message", None) or error).split())
        raise UsageError(f"The preprocessing in {folder} cannot be read ({reason}). Use another copy.") from error
    return found


def adapted(given: Any, dataset: Dataset, kind: str, samples: int) -> Preprocessing:
    """Adapt the result of `Scenario.preprocessing` to the training data.

    Args:
        given: a Keras layer or model, a `FeatureSpace`, or a mapping from input name to layer.
        dataset: the training samples.
        kind: the name of the scenario, for errors.
        samples: the most samples to read of a stream.

    Raises:
        ScenarioError: it cannot be adapted to the data, or does not return tensors.
    """
    called = f"{kind}.preprocessing()"
    inputs = dataset.specs()[0]
    if not isinstance(given, keras.layers.Layer | keras.utils.FeatureSpace) and not _is_mapping_of_layers(given):
        raise ScenarioError(
            f"{called} returned {type(given).__name__}. Return a Keras layer or model, a keras.utils.FeatureSpace, or "
            "a mapping from the name of an input to its layer."
        )
    count = min(samples, len(dataset)) if isinstance(dataset, StreamDataset) else len(dataset)
    try:
        names = _adapt(given, inputs, _Batches(dataset, count))
        made = _traced(given, inputs)
    except AipError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{name or 'inputs'} {spec.shape} {spec.dtype}" for name, spec in inputs.items())
        raise ScenarioError(f"{called} cannot take the data's inputs ({shapes}): {located_sentence(error)}") from error
    made.about = f"{type(given).__name__}" + (f", adapted to {count:,} training samples" if names else "")
    return made


class _Batches:
    """The inputs of the first samples of a dataset, as often as needed."""

    def __init__(self, dataset: Dataset, count: int) -> None:
        self._dataset, self._count = dataset, count
        self._specs = {
            name: tf.TensorSpec((None, *spec.shape), spec.dtype) for name, spec in dataset.specs()[0].items()
        }

    def of(self, take: Any) -> tf.data.Dataset:
        """Return the batches of a part of the inputs; `take` maps a dict of tensors to that part."""
        return tf.data.Dataset.from_generator(self._read, output_signature=self._specs).map(take)

    def _read(self) -> Iterator[dict[str, Any]]:
        starts = range(0, self._count, BATCH_SIZE)
        parts = (np.arange(start, min(start + BATCH_SIZE, self._count)) for start in starts)
        for batch in self._dataset.batches(Visits(indices=part, epochs=np.zeros_like(part)) for part in parts):
            yield batch.inputs


def _adapt(given: Any, inputs: Mapping[str, ColumnSpec], batches: _Batches) -> bool:
    """Adapt all layers that have a state; return True if there are any."""
    if isinstance(given, Mapping):
        found = [_adapt_layer(layer, batches, lambda x, name=name: x[name]) for name, layer in given.items()]
        return any(found)
    if isinstance(given, keras.utils.FeatureSpace):
        given.adapt(batches.of(lambda x: {name: x[name] for name in given.features}))
        return True
    return _adapt_layer(given, batches, lambda x: x.get("", x))


def _adapt_layer(layer: Any, batches: _Batches, take: Any) -> bool:
    if not isinstance(layer, keras.Model):
        if not hasattr(layer, "adapt"):
            return False
        layer.adapt(batches.of(take))
        return True
    found = False
    for inner in layer.layers:
        if hasattr(inner, "adapt"):
            before = keras.Model(layer.input, inner.input)
            inner.adapt(batches.of(lambda x, before=before: before(take(x))))
            found = True
    return found


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
    return Preprocessing(function, inputs, outputs, tracked=_state_of(given))


def _applied(given: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return {name: given[name](value) if name in given else value for name, value in inputs.items()}
    if isinstance(given, keras.utils.FeatureSpace):
        found = given({name: inputs[name] for name in given.features})
    else:
        value = inputs[""] if "" in inputs else dict(inputs)
        found = given(value, training=False) if isinstance(given, keras.Model) else given(value)
    return {str(name): each for name, each in found.items()} if isinstance(found, Mapping) else {"": found}


def _state_of(given: Any) -> list[Any]:
    """Return the lookup tables and the variables of preprocessing."""
    layers = [given]
    if isinstance(given, keras.utils.FeatureSpace):
        layers = [*given.preprocessors.values(), *given.crossers.values(), *given.one_hot_encoders.values()]
    elif isinstance(given, Mapping):
        layers = list(given.values())
    tables = [table for layer in layers for table in tables_of(layer)]
    return [*tables, *(variable.value for layer in layers for variable in layer.variables)]


def _dense(value: Any) -> Any:
    if isinstance(value, tf.RaggedTensor):
        return value.to_tensor()
    return tf.sparse.to_dense(value) if isinstance(value, tf.SparseTensor) else tf.convert_to_tensor(value)


def _is_mapping_of_layers(given: Any) -> bool:
    return isinstance(given, Mapping) and all(isinstance(each, keras.layers.Layer) for each in given.values())


def _as_json(specs: Mapping[str, ColumnSpec]) -> dict[str, Any]:
    return {name: {"shape": list(spec.shape), "dtype": spec.dtype} for name, spec in specs.items()}


def _from_json(specs: Mapping[str, Any]) -> dict[str, ColumnSpec]:
    return {str(name): ColumnSpec(shape=tuple(spec["shape"]), dtype=str(spec["dtype"])) for name, spec in specs.items()}
