"""Reading weights: from a source to arrays by name. No code of a source is run and nothing is unpickled."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from aipcore.errors import AipError, ParamsError
from aipcore.training.artifacts import Artifact, Kind
from aipcore.training.checkpoint.weights import VALUE, Arrays, checkpoint_weights, model_weights, open_variables
from aipcore.training.warmstart.keras_files import read_keras_file, read_weights_file
from aipcore.training.warmstart.variables import SEEDS
from aipcore.training.warmstart.weights import Naming, Weights, named_weights

_LISTED = re.compile(r"variables/\d+/")
"""Keys of the list of all variables, in the model's order, that Keras' export writes."""
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_NOT_THE_MODEL = re.compile(r"(^|/)(_?optimizer/(?!_trainable_variables/)|keras_api/|save_counter/)|/\.OPTIMIZER_SLOT/")
"""What a SavedModel of Keras holds beside the model: optimizer, metrics and a counter.

What the optimizer trains is the model's, and may be stored under its name.
"""


def read_weights(source: Artifact) -> Weights:
    """Reads the weights of a source.

    Raises:
        ParamsError: it is damaged or not what its name says.
    """
    readers: dict[Kind, Callable[[Path], Weights]] = {
        "checkpoint": partial(_by_path, checkpoint_weights),
        "model": partial(_by_path, model_weights),
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


def _by_path(read: Callable[[Path], Arrays], path: Path) -> Weights:
    return Weights(arrays=read(path), naming=Naming.PATHS)


def _read_saved_model(path: Path) -> Weights:
    """Any SavedModel: names are those that its variables had in their program, from the graph of its objects.

    Variables that share a name go by the attributes that hold them, such as `encoder/layers/0/kernel`, or `variables/3`
    in what Keras exported.
    """
    reader = open_variables(path)
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
        place = key.removesuffix(VALUE)
        name = (names.get(key) or place).removesuffix(":0")
        if not name.rpartition("/")[2].startswith(SEEDS):
            found.append((name, place, array))
    return named_weights(found, Naming.PATHS)


def _in_order(key: str) -> list[tuple[int, str]]:
    # By numbers, as lists of variables are stored.
    return [(int(part), "") if part.isdigit() else (-1, part) for part in key.split("/")]
