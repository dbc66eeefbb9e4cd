"""The weights of a model by path, read from a checkpoint or from a SavedModel that aip wrote."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from aipcore.files import read_json, refuse_links
from aipcore.scenario.record import ABOUT_FILE
from aipcore.training.checkpoint.format import read_checkpoint
from aipcore.training.variables import without_replica

Arrays = dict[str, npt.NDArray[Any]]

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
"""The end of a variable's key in a SavedModel."""


def checkpoint_weights(path: Path) -> Arrays:
    """Read the model's variables from a checkpoint. Averaged weights (EMA) replace the raw ones.

    Variables that differ between replicas, such as batch-norm statistics within an epoch, are averaged. For integers,
    such as seeds, the first replica's value is used.

    Raises:
        TrainingError: it is damaged, or was written by a newer version of aip.
    """
    groups: dict[str, dict[str, list[npt.NDArray[Any]]]] = {"model": {}, "ema": {}}
    for name, array in read_checkpoint(path).arrays.items():
        group, _, rest = name.partition("/")
        if group in groups:
            groups[group].setdefault(without_replica(rest), []).append(array)
    return {name: _mean(values) for name, values in (groups["model"] | groups["ema"]).items()}


def _mean(values: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    if len(values) == 1 or not np.issubdtype(values[0].dtype, np.floating):
        return values[0]
    return np.asarray(np.mean([value.astype(np.float64) for value in values], axis=0), values[0].dtype)


def model_weights(path: Path) -> Arrays:
    """Read the variables of a SavedModel written by aip: `state/N` is the N-th path in its record.

    Raises:
        ValueError: the record does not match the variables, or see `open_variables`.
        UsageError, tf.errors.OpError: see `open_variables`.
        OSError: the record cannot be read.
    """
    about = read_json(path / ABOUT_FILE)
    paths = about.get("variables") if isinstance(about, dict) else None
    if not isinstance(paths, list):
        raise ValueError(f"{ABOUT_FILE} does not list its variables")
    reader = open_variables(path)
    stored = sum(name.startswith("state/") for name in reader.get_variable_to_shape_map())
    if stored != len(paths):
        raise ValueError(f"{ABOUT_FILE} lists {len(paths)} variables, but {stored} are stored")
    return {str(name): reader.get_tensor(f"state/{number}{VALUE}") for number, name in enumerate(paths)}


def open_variables(path: Path) -> Any:
    """Open the variables of a SavedModel.

    Raises:
        ValueError: the variables claim more bytes than their files have.
        UsageError: one of their files is a pipe, a device or a socket.
        tf.errors.OpError: the files are damaged.
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
        raise ValueError(f"its variables need {claimed:,} bytes, but its files have {there:,}")
    return reader
