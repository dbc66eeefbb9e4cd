"""Reading weights: from a source to arrays by name. No code of a source is run and nothing is unpickled."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from aipcore.errors import AipError, ParamsError
from aipcore.files import refuse_links
from aipcore.training.checkpoint.format import read_checkpoint
from aipcore.training.warmstart.keras_files import read_keras_file, read_weights_file
from aipcore.training.warmstart.sources import Kind, Naming, Source, Weights, named_weights, variable_paths
from aipcore.training.warmstart.variables import SEEDS

_REPLICA = re.compile(r"@\d+$")
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_LISTED = re.compile(r"variables/\d+/")
"""Keys of the list of all variables, in the model's order, that Keras' export writes."""
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_NOT_THE_MODEL = re.compile(r"(^|/)(_?optimizer/(?!_trainable_variables/)|keras_api/|save_counter/)|/\.OPTIMIZER_SLOT/")
"""What a SavedModel of Keras holds beside the model: optimizer, metrics and a counter.

What the optimizer trains is the model's, and may be stored under its name.
"""


def read_weights(source: Source) -> Weights:
    """Reads the weights of a source.

    Raises:
        ParamsError: it is damaged or not what its name says.
    """
    readers: dict[Kind, Callable[[Path], Weights]] = {
        "checkpoint": _read_checkpoint,
        "model": _read_model,
        "SavedModel": _read_saved_model,
        "Keras file": read_keras_file,
        "weights file": read_weights_file,
    }
    try:
        return readers[source.kind](source.path)
    except AipError as error:
        raise ParamsError(f"--warmstart.model: {error}") from error
    except (
        OSError, ValueError, LookupError, TypeError, RuntimeError, OverflowError, BadZipFile, tf.errors.OpError,
    ) as error:  # fmt: skip
        reason = " ".join(str(getattr(error, "message", None) or error).split())
        raise ParamsError(
            f"--warmstart.model {source.path} cannot be read as a {source.kind} ({reason}): it is damaged or something "
            "else; give another."
        ) from error


def _read_checkpoint(path: Path) -> Weights:
    """The model's variables, with the averaged weights instead of the raw ones where there are any."""
    parts: dict[str, list[npt.NDArray[Any]]] = {}
    averaged: dict[str, npt.NDArray[Any]] = {}
    for name, array in read_checkpoint(path).arrays.items():
        group, _, rest = name.partition("/")
        if group == "model":
            parts.setdefault(_REPLICA.sub("", rest), []).append(array)
        elif group == "ema":
            averaged[_REPLICA.sub("", rest)] = array
    arrays = {name: _mean(values) for name, values in parts.items()} | averaged
    return Weights(arrays=arrays, naming=Naming.PATHS)


def _mean(values: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    # Batch-norm statistics of several replicas, in a checkpoint from within an epoch.
    if len(values) == 1 or not np.issubdtype(values[0].dtype, np.floating):
        return values[0]
    mean: npt.NDArray[Any] = np.mean([value.astype(np.float64) for value in values], axis=0).astype(values[0].dtype)
    return mean


def load_variables(path: Path) -> Any:
    """Open the variables of a SavedModel.

    Raises:
        ValueError: they claim to take more bytes than there are.
        UsageError: a file of them is a pipe, a device or a socket.
        tf.errors.OpError: they are damaged.
    """
    folder = path / "variables"
    refuse_links(folder, reading=True)
    reader = tf.train.load_checkpoint(str(folder / "variables"))
    types = reader.get_variable_to_dtype_map()
    claimed = sum(
        math.prod(shape) * types[name].size
        for name, shape in reader.get_variable_to_shape_map().items()
        if types[name] != tf.string
    )
    there = sum(file.stat().st_size for file in folder.glob("variables.data-*"))
    if claimed > there:
        raise ValueError(f"its variables take {claimed:,} bytes, and {there:,} are there")
    return reader


def _read_model(path: Path) -> Weights:
    """What aip wrote: `state/N` is the N-th of the recorded paths."""
    reader = load_variables(path)
    paths = variable_paths(path)
    assert paths is not None
    stored = [name for name in reader.get_variable_to_shape_map() if name.startswith("state/")]
    if len(stored) != len(paths):
        raise ValueError(f"aip.json names {len(paths)} variables, and {len(stored)} are there")
    arrays = {name: reader.get_tensor(f"state/{number}{_VALUE}") for number, name in enumerate(paths)}
    return Weights(arrays=arrays, naming=Naming.PATHS)


def _read_saved_model(path: Path) -> Weights:
    """Any SavedModel: names are those that its variables had in their program, from the graph of its objects.

    Variables that share a name go by the attributes that hold them, such as `encoder/layers/0/kernel`, or `variables/3`
    in what Keras exported.
    """
    reader = load_variables(path)
    stored = reader.get_variable_to_shape_map()
    names: dict[str, str] = {}
    if _OBJECT_GRAPH in stored:
        graph = trackable_object_graph_pb2.TrackableObjectGraph()
        graph.ParseFromString(reader.get_tensor(_OBJECT_GRAPH))
        for node in graph.nodes:
            for attribute in node.attributes:
                names[attribute.checkpoint_key] = attribute.full_name
    found: list[tuple[str, str, npt.NDArray[Any]]] = []
    listed = any(_LISTED.match(key) for key in stored)
    for key in sorted(stored, key=_in_order):
        # Keras' export lists each variable under two keys, and under the other one in no order.
        if key == _OBJECT_GRAPH or _NOT_THE_MODEL.search(key) or (listed and not _LISTED.match(key)):
            continue
        array = reader.get_tensor(key)
        if not isinstance(array, np.ndarray):
            continue
        place = key.removesuffix(_VALUE)
        name = (names.get(key) or place).removesuffix(":0")
        if not name.rpartition("/")[2].startswith(SEEDS):
            found.append((name, place, array))
    return named_weights(found, Naming.PATHS)


def _in_order(key: str) -> list[tuple[int, str]]:
    # By numbers, as lists of variables are stored.
    return [(int(part), "") if part.isdigit() else (-1, part) for part in key.split("/")]
