"""Adapted preprocessing: a function with a state from the training data, which runs ahead of the model."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import tensorflow as tf

from aipcore.data.dataset import Dataset
from aipcore.data.pipeline import Preload
from aipcore.data.preprocessed import PreprocessedDataset
from aipcore.data.sample import ColumnSpec
from aipcore.data.strings import STRING, type_of
from aipcore.errors import DataError
from aipcore.files import open_regular, read_json
from aipcore.scenario.model import Graph, argument_names
from aipcore.scenario.params import DataParams

FOLDER = "preprocessing"
"""The folder of a run or a model that holds its adapted preprocessing."""

RECORD = "preprocessing"
"""The key of the record of a run or a model that holds the digest of this folder."""

SPECS_FILE = "specs.json"


class Preprocessing(tf.Module):  # type: ignore[misc]
    """A function from the inputs of the data to the inputs of the model, with its state.

    Args:
        function: the traced function, from tensors by argument name to tensors by argument name.
        inputs: the specs of its inputs.
        outputs: the specs of its outputs.
        needs: for each output, the names of the inputs that it depends on.
        tracked: the objects that hold its state.

    Attributes:
        about: a description for the plan of the run.
        folder: the folder that holds it on disk, or None.
        digest: the digest of this folder, see `digest_of`, or None.
    """

    def __init__(
        self,
        function: Any,
        inputs: Mapping[str, ColumnSpec],
        outputs: Mapping[str, ColumnSpec],
        needs: Mapping[str, Sequence[str]],
        *,
        tracked: Any,
    ) -> None:
        super().__init__()
        self.function = function
        # A module tracks dicts, and wraps them.
        self._specs = (tuple(inputs.items()), tuple(outputs.items()))
        self._needs = tuple((name, tuple(needs[name])) for name in outputs)
        self.about = ""
        self.folder: Path | None = None
        self.digest: str | None = None
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

    def needed(self, outputs: Collection[str]) -> dict[str, ColumnSpec]:
        """Return the specs of the inputs of the data, by name, without those that only other outputs depend on."""
        kept, others = (
            {name for output, needs in self._needs if (output in outputs) is wanted for name in needs}
            for wanted in (True, False)
        )
        return {name: spec for name, spec in self.inputs.items() if name in kept or name not in others}

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs of the model for tensors of shape [batch, ...] by name.

        Without some inputs, the outputs that depend on them are left out.
        """
        given = {name: tf.convert_to_tensor(value) for name, value in inputs.items() if name in self.inputs}
        batch = tf.shape(next(iter(given.values())))[0]
        arguments = argument_names(self.inputs)
        missing = {name: _blank(spec, batch) for name, spec in self.inputs.items() if name not in given}
        found = self.function(**{arguments[name]: value for name, value in (given | missing).items()})
        known = {name for name, needs in self._needs if given.keys() >= set(needs)}
        return {name: found[argument] for name, argument in argument_names(self.outputs).items() if name in known}

    def on_host(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs of the model for arrays of shape [batch, ...] by name, as arrays.

        Raises:
            DataError: an input is missing or does not fit.
        """
        # In a cluster, the short name "CPU:0" is that of the chief.
        here = tf.DeviceSpec.from_string(tf.zeros(()).device).replace(device_type="CPU", device_index=0)
        try:
            with tf.device(here):
                found = self({name: tf.constant(inputs[name], spec.dtype) for name, spec in self.inputs.items()})
        except (KeyError, ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
            wanted = ", ".join(f"{name or 'one array'} {each.shape} {each.dtype}" for name, each in self.inputs.items())
            given = ", ".join(
                f"{name or 'one array'} {np.shape(each)[1:]} {type_of(np.asarray(each))}"
                for name, each in inputs.items()
            )
            raise DataError(
                f"The preprocessing was adapted to {wanted}, but was given {given}. Give all data the inputs of the "
                "training data."
            ) from error
        return {name: value.numpy() for name, value in found.items()}

    def save(self, folder: Path) -> str:
        """Write the preprocessing to a new or empty folder, as a SavedModel with the specs beside it.

        Returns:
            The digest of the folder.
        """
        if self.folder is not None and self.folder.is_dir():
            shutil.copytree(self.folder, folder, dirs_exist_ok=True)
            return digest_of(folder)
        tf.saved_model.save(self, str(folder), signatures={"serving_default": self.function})
        specs = {"inputs": _as_json(self.inputs), "outputs": _as_json(self.outputs)}
        content = {**specs, "needs": dict(self._needs), "about": self.about}
        (folder / SPECS_FILE).write_text(json.dumps(content, indent=1), encoding="utf-8")
        return digest_of(folder)


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
        inputs=preprocessing.needed(graph.inputs),
        outputs=graph.outputs,
        inner=graph,
        preprocessing=preprocessing,
    )


def preprocessed(dataset: Dataset, preprocessing: Preprocessing, preload: Preload, params: DataParams) -> Dataset:
    """Return a dataset whose inputs are preprocessed, in memory or batch by batch.

    Args:
        dataset: the processed samples.
        preprocessing: the preprocessing.
        preload: keep the results in memory; see `Pipeline`.
        params: the parameters of the data, with the memory limit.
    """
    made = PreprocessedDataset(raw=dataset, convert=preprocessing.on_host, inputs=preprocessing.outputs)
    if preload == "off":
        return made
    return made.kept(None if preload == "on" else params.preload_mib * 2**20)


def tables_of(model: Any) -> list[Any]:
    """Return the lookup tables of a layer and of the layers in it."""
    objects = tf.train.TrackableView(model).descendants()
    return [each for each in objects if isinstance(each, tf.saved_model.experimental.TrackableResource)]


def used_tables(layers: Iterable[Any], functions: Iterable[Any]) -> list[Any]:
    """Return the lookup tables of layers that traced functions use.

    Others, such as the word counts of an adaptation, are larger than the vocabulary, and saving them in a cluster would
    bind the SavedModel to the host that saved it.
    """
    captured = {id(tensor) for function in functions for tensor in function.captured_inputs}
    return [table for layer in layers for table in tables_of(layer) if id(table.resource_handle) in captured]


def digest_of(folder: Path) -> str:
    """Return the SHA-256 of the names and contents of all files of a folder, without hidden ones.

    Raises:
        OSError: one is not a regular file, or cannot be read.
    """
    found = hashlib.sha256()
    for path in sorted(folder.rglob("[!.]*")):
        if not path.is_dir():
            with open_regular(path) as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
            found.update(f"{path.relative_to(folder).as_posix()}\0{content}\0".encode())
    return found.hexdigest()


def load_saved_model(folder: Path) -> Any:
    """Load a SavedModel. If it has unknown operations, import `tensorflow_text`, whose tokenizers are operations.

    Raises:
        ValueError: it has operations of a package that is not installed; a damaged one raises errors of many kinds.
    """
    try:
        return tf.saved_model.load(str(folder))
    except Exception as error:
        if "Op type not registered" not in str(error):
            raise
        if find_spec("tensorflow_text") is None:
            raise ValueError("it has operations of another package. Run pip install tensorflow-text") from error
    import_module("tensorflow_text")
    return tf.saved_model.load(str(folder))


def read_preprocessing(folder: Path) -> Preprocessing:
    """Read a folder that `Preprocessing.save` wrote. A damaged one raises errors of many kinds."""
    about = read_json(folder / SPECS_FILE)
    inputs, outputs = (_from_json(about[side]) for side in ("inputs", "outputs"))
    loaded = load_saved_model(folder)
    # The function does not keep the tables alive.
    found = Preprocessing(loaded.signatures["serving_default"], inputs, outputs, about["needs"], tracked=loaded)
    wanted = [set(argument_names(specs).values()) for specs in (inputs, outputs)]
    if wanted != [set(found.function.structured_input_signature[1]), set(found.function.structured_outputs)]:
        raise ValueError(f"its inputs and outputs are not those of {SPECS_FILE}")
    found.about, found.folder = str(about["about"]), folder
    return found


def _blank(spec: ColumnSpec, batch: Any) -> Any:
    """Return an input of a batch on which no requested output depends."""
    value = "" if spec.dtype == STRING else tf.zeros((), spec.dtype)
    return tf.fill([batch, *(1 if size is None else size for size in spec.shape)], value)


def _as_json(specs: Mapping[str, ColumnSpec]) -> dict[str, Any]:
    return {name: {"shape": list(spec.shape), "dtype": spec.dtype} for name, spec in specs.items()}


def _from_json(specs: Mapping[str, Any]) -> dict[str, ColumnSpec]:
    return {str(name): ColumnSpec(shape=tuple(spec["shape"]), dtype=str(spec["dtype"])) for name, spec in specs.items()}
