"""Reading `.keras` and `.weights.h5` files.

Such a file has a group for each layer. The group is named by the layer's class and its position among the layers of
this class (`layers/dense_1`), or by the attribute of the parent layer that holds it. Its variables are numbered:
`vars/0`. Keras since 3.10 or so also stores the layer's own name. For older files, the name is in the configuration
beside, if at all. Layers are never constructed, so their code does not run.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from aipcore.files import MANIFEST_BYTES, open_regular, read_limit
from aipcore.training.warmstart.weights import Naming, Weights, named_weights

LAYERS = "layers"
"""The group of a model's layers."""


def read_weights_file(path: Path) -> Weights:
    """Read a `.weights.h5` file, or the weights of an `.h5` file of Keras 2."""
    with open_regular(path) as opened:
        size = os.fstat(opened.fileno()).st_size
    with h5py.File(path, "r") as file:
        _check_sizes(file, size)
        return _read_old(file) if "layer_names" in _model_group(file).attrs else _read(file, config=None)


def read_keras_file(path: Path) -> Weights:
    """Read the weights of a `.keras` file."""
    with zipfile.ZipFile(path) as archive:
        if "model.weights.h5" not in archive.namelist():
            raise ValueError("it has no model.weights.h5")
        for name in ("config.json", "model.weights.h5"):
            # Keras does not compress. Without compression, a small file cannot fill the memory.
            if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{name} in it is compressed, but Keras files are not")
        if archive.getinfo("config.json").file_size > MANIFEST_BYTES:
            raise ValueError("config.json in it is too large")
        size = archive.getinfo("model.weights.h5").file_size
        if size > path.stat().st_size:
            raise ValueError("model.weights.h5 in it is larger than the file")
        config = json.loads(archive.read("config.json"))
        with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as file:
            _check_sizes(file, size)
            return _read(file, config=config)


def _check_sizes(file: Any, size: int) -> None:
    """Reject datasets that claim more bytes than are stored: HDF5 returns zeros for parts that were never written.

    Args:
        file: the HDF5 file.
        size: its size in bytes.

    Raises:
        ValueError: a dataset is empty for its shape or not numeric, or all of them together exceed the limit.
    """
    total = 0

    def visit(name: str, item: Any) -> None:
        nonlocal total
        if not isinstance(item, h5py.Dataset):
            return
        if item.dtype.hasobject:
            raise ValueError(f"{name} in it does not contain numbers")
        total += int(item.nbytes)
        if item.external or item.is_virtual:
            raise ValueError(f"{item.name} is stored in another file")
        if item.nbytes and not item.id.get_storage_size():
            raise ValueError(f"{name} in it has shape {item.shape} but no data")

    file.visititems(visit)
    if total > size + read_limit():
        raise ValueError(f"it unpacks to {total / 2**30:,.1f} GiB; set AIP_READ_GIB to read it anyway")


def snake_case(name: str) -> str:
    """Return Keras' name for a layer of a class: `batch_normalization` for BatchNormalization."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _read(file: Any, config: Any) -> Weights:
    # The paths of a subclassed model begin with its name, and it may have variables outside all layers.
    root = file["vars"].attrs.get("name") if "vars" in file and LAYERS not in file else None
    stored = {
        name: array
        for name, array in _arrays(file).items()
        if "vars" in name.split("/")[:-1] and name.split("/")[0] not in ("optimizer", "" if root else "vars")
    }
    names = _own_names(file, stored)
    naming = Naming.LAYERS
    if names is None:
        names = {} if config is None else _configured(config, "")
        naming = Naming.ORDER if config is None else Naming.ATTRIBUTES
    prefix = f"{root}/" if root and naming is Naming.LAYERS else ""
    return named_weights(((prefix + _named(name, names), name, array) for name, array in stored.items()), naming)


def _arrays(group: Any) -> dict[str, npt.NDArray[Any]]:
    found: dict[str, npt.NDArray[Any]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = _array(item)

    # `visititems` follows no links, so nothing outside the file is read.
    group.visititems(visit)
    return found


def _own_names(file: Any, stored: Iterable[str]) -> dict[str, str] | None:
    """Return the layers' names by group, as stored in the file; None if it has no names."""
    names = {}
    for path in stored:
        parts = path.split("/")
        for end in range(1, _vars_at(parts) + 1):
            group = "/".join(parts[:end])
            if f"{group}/vars" not in file:
                continue
            name = file[f"{group}/vars"].attrs.get("name")
            if not isinstance(name, str) or not name:
                return None
            names[group] = name
    return names


def _named(path: str, names: Mapping[str, str]) -> str:
    """Return a path with the groups' own names, without the containers that every model has."""
    parts = path.split("/")
    end = _vars_at(parts)
    named = [names.get("/".join(parts[: at + 1]), part) for at, part in enumerate(parts[:end]) if part != LAYERS]
    return "/".join([*named, *parts[end:]])


def _vars_at(parts: Sequence[str]) -> int:
    return len(parts) - 1 - list(reversed(parts)).index("vars")


def _configured(config: Any, group: str) -> dict[str, str]:
    """Return the names of the layers of a model, and of nested models, by their groups."""
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    inner = config.get("config") if isinstance(config, dict) else None
    layers = inner.get("layers") if isinstance(inner, dict) else None
    for layer in layers or []:
        kind = snake_case(layer["class_name"])
        number = counts[kind] = counts.get(kind, -1) + 1
        path = f"{group}{LAYERS}/{kind}_{number}" if number else f"{group}{LAYERS}/{kind}"
        names[path] = layer["config"]["name"]
        names |= _configured(layer, f"{path}/")
    return names


def _array(item: Any) -> npt.NDArray[Any]:
    if item.external or item.is_virtual:
        raise ValueError(f"{item.name} is stored in another file")
    array = np.asarray(item)
    # HDF5 has no bfloat16: Keras stores its bytes and records the type in an attribute.
    if item.attrs.get("dtype") == "bfloat16":
        import ml_dtypes

        array = array.view(ml_dtypes.bfloat16)
    return array


def _model_group(file: Any) -> Any:
    return file.get("model_weights", file)


def _read_old(file: Any) -> Weights:
    group = _model_group(file)
    stored = _arrays(group)
    found = []
    for layer in map(_text, group.attrs["layer_names"]):
        for name in map(_text, group[layer].attrs["weight_names"]):
            # Names in a nested model do not include the model.
            path = name.removesuffix(":0")
            path = path if path.startswith(f"{layer}/") else f"{layer}/{path}"
            found.append((path, f"{layer}/{name}", stored[f"{layer}/{name}"]))
    return named_weights(found, Naming.PATHS)


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
