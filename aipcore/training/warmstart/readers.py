"""Reading of weights from a source as arrays by name. No code of a source is run and nothing is unpickled."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import attrs
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from aipcore.errors import AipError, ParamsError
from aipcore.training.artifacts import WEIGHTS, Artifact, Kind, find_artifact
from aipcore.training.checkpoint.weights import VALUE, Arrays, checkpoint_weights, model_weights, open_variables
from aipcore.training.warmstart.keras_files import read_keras_file, read_weights_file
from aipcore.training.warmstart.variables import SEEDS
from aipcore.training.warmstart.weights import Naming, Weights, named_weights

_LISTED = re.compile(r"variables/\d+/")
"""Keys in the list of all variables, in model order, that Keras' export writes."""
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_NOT_THE_MODEL = re.compile(r"(^|/)(_?optimizer/(?!_trainable_variables/)|keras_api/|save_counter/)|/\.OPTIMIZER_SLOT/")
"""Parts of a Keras SavedModel other than the model: optimizer, metrics and a counter.

The variables trained by the optimizer belong to the model, and may be stored under the optimizer's name.
"""


def read_variables(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """Return the variables of a model on disk, arrays by name.

    They are read as for a warm start: no code of the file is run, nothing is unpickled, and the memory is bounded by
    the size of the file or by `AIP_READ_GIB`.

    Args:
        path: a run folder, its best, export or checkpoint, a .keras or .weights.h5 file, an .h5 file of Keras 2, or the
            folder of any SavedModel.

    Raises:
        UsageError: the path is none of these, or damaged.
    """
    source = find_artifact(Path(path), attrs.evolve(WEIGHTS, option=""))
    return dict(read_weights(source, option="").arrays)


def read_weights(source: Artifact, option: str = WEIGHTS.option) -> Weights:
    """Read the weights of a source.

    Args:
        source: the source.
        option: the option with its path, for errors; empty for none.

    Raises:
        ParamsError: the source is damaged or of another kind.
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
        raise ParamsError(f"{option}: {error}".removeprefix(": ")) from error
    except (
        OSError, ValueError, LookupError, TypeError, RuntimeError, OverflowError, BadZipFile, tf.errors.OpError,
    ) as error:  # fmt: skip
        reason = " ".join(str(getattr(error, "message", None) or error).split())
        raise ParamsError(
            f"{option} {source.path} cannot be read as a {source.kind} ({reason}). It is damaged or of "
            "another kind. Use another source.".lstrip()
        ) from error


def _by_path(read: Callable[[Path], Arrays], path: Path) -> Weights:
    return Weights(arrays=read(path), naming=Naming.PATHS)


def _read_saved_model(path: Path) -> Weights:
    """Read any SavedModel. Names are those of the variables in their program, from the object graph.

    Variables with the same name are identified by the attributes that hold them, such as `encoder/layers/0/kernel`, or
    `variables/3` in Keras' exports.
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
        # Keras' export lists each variable under two keys, and only one of the lists is ordered.
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
    # In numeric order, as lists of variables are stored.
    return [(int(part), "") if part.isdigit() else (-1, part) for part in key.split("/")]
