"""Saved predictions: lossless npz and Parquet files, and the scenario of the model that made them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import numpy.typing as npt

from aipcore.arrays import read_npz, too_large
from aipcore.data.processor import Mode, as_post_processors, post_process
from aipcore.data.strings import holds_strings
from aipcore.errors import UsageError, author_errors
from aipcore.files import open_regular, read_limit
from aipcore.hooks.manager import PluginManager, get_plugin_manager
from aipcore.params import from_dict
from aipcore.prediction.data import cut_masked_end
from aipcore.prediction.formats import NEEDS_PYARROW
from aipcore.prediction.params import applied_params_class
from aipcore.scenario.record import checked_record, recorded_plugins, recorded_scenario
from aipcore.scenario.scenario import Scenario

if TYPE_CHECKING:
    from aipcore.prediction.predictor import Prediction


def to_json(value: Any) -> Any:
    """Convert a value to JSON types: arrays to lists, bytes to text, NaN and infinity to None.

    Other values, such as a `Path` in meta, are converted by `str`.
    """
    if isinstance(value, np.ndarray | np.generic):
        return to_json(value.astype(np.float32).tolist() if value.dtype.isbuiltin == 2 else value.tolist())
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


Array = npt.NDArray[Any]

FORMAT = 1
"""Version of the file layout."""

SHAPE = "#shape"


@attrs.define(kw_only=True, eq=False)
class Stored:
    """The outputs of a model for some samples.

    Attributes:
        about: record of the model, with the parameters it was applied with.
        index: index of each sample in its list.
        lists: name of each sample's list; "" for the validation data and for prediction.
        batch: batch index of each sample. Padding depends on the batch.
        meta: `Sample.meta` of each sample as JSON text; empty for none.
        penalty: regularization penalty of the model for the batch of each sample.
        columns: array for each sample, by group and name (`outputs/digit`).
    """

    about: dict[str, Any]
    index: list[int] = attrs.field(factory=list)
    lists: list[str] = attrs.field(factory=list)
    batch: list[int] = attrs.field(factory=list)
    meta: list[str] = attrs.field(factory=list)
    penalty: list[float] = attrs.field(factory=list)
    columns: dict[str, list[Any]] = attrs.field(factory=dict)

    def __len__(self) -> int:
        return len(self.index)

    def add_sample(
        self, *, index: int, batch: int, list_name: str = "", meta: Any = None, penalty: float = 0.0
    ) -> None:
        """Add the metadata of one sample."""
        self.index.append(index)
        self.batch.append(batch)
        self.lists.append(list_name)
        self.meta.append("" if meta is None else json.dumps(to_json(meta)))
        self.penalty.append(penalty)

    def add_values(self, group: str, values: Mapping[str, Any]) -> None:
        """Add the values of one sample to the columns of a group."""
        for name, value in values.items():
            self.columns.setdefault(f"{group}/{name}", []).append(value)

    def group(self, group: str) -> dict[str, list[Any]]:
        """Return the columns of a group by name."""
        return {
            name.partition("/")[2]: values for name, values in self.columns.items() if name.partition("/")[0] == group
        }


def write_stored(path: Path, stored: Stored) -> None:
    """Write a file in the format of its suffix, `.npz` or `.parquet`.

    Raises:
        UsageError: the file cannot be written, or pyarrow is missing.
    """
    columns = {name: _packed(values) for name, values in stored.columns.items()}
    header = json.dumps({"format": FORMAT, "about": stored.about})
    try:
        if path.suffix == ".parquet":
            _write_parquet(path, stored, columns, header)
        else:
            _write_npz(path, stored, columns, header)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror or error}). Choose another file, or free some space."
        ) from error


def read_stored(path: Path) -> Stored:
    """Read a file from `write_stored`.

    Raises:
        UsageError: the file has another format, is damaged, or was written by a newer aip.
    """
    try:
        header, plain, columns = _read_parquet(path) if path.suffix == ".parquet" else _read_npz(path)
        read = json.loads(header)
        version, about = read["format"], read["about"]
    except UsageError:
        raise
    except Exception as error:
        # NumPy, zipfile and pyarrow raise many kinds of errors for damaged files.
        raise UsageError(
            f"{path} is not a file of aip lav --dump or aip predict --output, or it is damaged "
            f"({type(error).__name__}: {' '.join(str(error).split())})."
        ) from error
    if version > FORMAT:
        raise UsageError(
            f"{path} has format {version}, but this version of aip reads formats up to {FORMAT}. Upgrade aipcore."
        )
    counts = {len(values) for values in (*plain.values(), *columns.values())}
    if len(counts) > 1:
        raise UsageError(f"{path} is damaged: its columns have different lengths.")
    return Stored(about=about, columns=columns, **plain)


PLAIN: Mapping[str, Any] = {"index": int, "lists": str, "batch": int, "meta": str, "penalty": float}
"""The required columns of every file, and their types."""


@attrs.frozen(kw_only=True, eq=False)
class _Packed:
    """A column: one array of shape [samples, ...], or the flattened elements with the shape of each sample."""

    values: Array
    shapes: Array | None


def _packed(values: Sequence[Any]) -> _Packed:
    arrays = [_array(value) for value in values]
    if any(array is None for array in arrays):
        # Neither numbers nor text, such as a list of labelled boxes.
        arrays = [np.asarray(json.dumps(to_json(value))) for value in values]
    known = [array for array in arrays if array is not None]
    dtype = np.result_type(*{array.dtype for array in known})
    if len({array.shape for array in known}) == 1:
        return _Packed(values=np.stack(known).astype(dtype), shapes=None)
    flat = np.concatenate([array.reshape(-1) for array in known]).astype(dtype)
    rank = max(array.ndim for array in known)
    if any(array.ndim != rank for array in known):
        return _packed([json.dumps(to_json(value)) for value in values])
    return _Packed(values=flat, shapes=np.array([array.shape for array in known], np.int64))


def _array(value: Any) -> Array | None:
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    if array.dtype.kind in "biuU":
        return array
    if array.dtype.kind == "S":
        return np.asarray(np.char.decode(array.astype(bytes), "utf-8", "backslashreplace"))
    if array.dtype == object and array.size and holds_strings(array):
        texts = [each.decode("utf-8", "backslashreplace") if isinstance(each, bytes) else each for each in array.flat]
        return np.array(texts, np.str_).reshape(array.shape)
    if array.dtype.kind == "f":
        return array
    if array.dtype.isbuiltin == 2 and np.can_cast(array.dtype, np.float32):
        # bfloat16 is unknown to both formats. float32 represents all its values exactly.
        return array.astype(np.float32)
    return None


def _unpacked(values: Array, shapes: Array | None) -> list[Any]:
    if shapes is None:
        return list(values)
    sizes = shapes.prod(axis=1)
    parts = np.split(values, np.cumsum(sizes)[:-1]) if len(sizes) else []
    return [part.reshape(shape) for part, shape in zip(parts, shapes.tolist(), strict=True)]


def _write_npz(path: Path, stored: Stored, columns: Mapping[str, _Packed], header: str) -> None:
    arrays: dict[str, Array] = {"aip": np.array(header)}
    for name, kind in PLAIN.items():
        dtype = {int: np.int64, float: np.float64, str: np.str_}[kind]
        arrays[name] = np.array(getattr(stored, name), dtype)
    for name, packed in columns.items():
        arrays[name] = packed.values
        if packed.shapes is not None:
            arrays[name + SHAPE] = packed.shapes
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _read_npz(path: Path) -> tuple[str, dict[str, Any], dict[str, list[Any]]]:
    arrays = read_npz(path)
    columns = [name for name in arrays if name != "aip" and not name.endswith(SHAPE)]
    if len({len(arrays.get(name + SHAPE, arrays[name])) for name in columns}) > 1:
        raise ValueError("its columns have different lengths")
    plain = {name: arrays.pop(name).tolist() for name in PLAIN}
    header = str(arrays.pop("aip"))
    shapes = {name: arrays.pop(name) for name in list(arrays) if name.endswith(SHAPE)}
    return header, plain, {name: _unpacked(values, shapes.get(name + SHAPE)) for name, values in arrays.items()}


def _write_parquet(path: Path, stored: Stored, columns: Mapping[str, _Packed], header: str) -> None:
    pyarrow, parquet = _pyarrow()
    kinds = {int: pyarrow.int64(), float: pyarrow.float64(), str: pyarrow.string()}
    table: dict[str, Any] = {name: getattr(stored, name) for name in PLAIN}
    schema = {name: kinds[kind] for name, kind in PLAIN.items()}
    for name, packed in columns.items():
        text = packed.values.dtype.kind == "U"
        kind = pyarrow.string() if text else pyarrow.from_numpy_dtype(packed.values.dtype)
        if packed.shapes is None and packed.values.ndim == 1:
            table[name], schema[name] = packed.values.tolist(), kind
            continue
        samples = _unpacked(packed.values, packed.shapes)
        flat = [sample.reshape(-1) for sample in samples]
        table[name], schema[name] = [each.tolist() for each in flat] if text else flat, pyarrow.list_(kind)
        table[name + SHAPE] = [list(sample.shape) for sample in samples]
        schema[name + SHAPE] = pyarrow.list_(pyarrow.int64())
    arrays = [pyarrow.array(table[name], schema[name]) for name in schema]
    made = pyarrow.table(arrays, schema=pyarrow.schema(list(schema.items()), metadata={"aip": header}))
    parquet.write_table(made, path)


def _read_parquet(path: Path) -> tuple[str, dict[str, Any], dict[str, list[Any]]]:
    pyarrow, parquet = _pyarrow()
    with open_regular(path) as file:
        about = parquet.read_metadata(file)
        groups = [about.row_group(number) for number in range(about.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)
        size += 8 * sum(group.column(at).num_values for group in groups for at in range(group.num_columns))
        if size > read_limit():
            raise too_large(path, size)
        table = parquet.read_table(file)
    header = table.schema.metadata[b"aip"].decode()
    plain = {name: table[name].to_pylist() for name in PLAIN}
    columns: dict[str, list[Any]] = {}
    for name in table.column_names:
        if name in PLAIN or name.endswith(SHAPE):
            continue
        kind = table.schema.field(name).type
        listed = pyarrow.types.is_list(kind)
        inner = kind.value_type if listed else kind
        dtype = np.dtype(np.str_) if pyarrow.types.is_string(inner) else np.dtype(inner.to_pandas_dtype())
        values = [np.asarray(value, dtype) for value in table[name].to_pylist()]
        if listed:
            shapes = table[name + SHAPE].to_pylist()
            values = [value.reshape(shape) for value, shape in zip(values, shapes, strict=True)]
        columns[name] = values
    return header, plain, columns


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(NEEDS_PYARROW) from error
    return pyarrow, pyarrow.parquet


def scenario_of_stored(stored: Stored, path: Path, plugins: PluginManager, *, trust: bool) -> Scenario:
    """Make the scenario with the parameters that the model was applied with.

    Raises:
        UsageError: the file does not name a scenario, or the scenario is not installed or not trusted.
    """
    about = checked_record(stored.about, path)
    plugins = recorded_plugins(about, plugins, trust=trust, where=path, applied=True)
    scenario = recorded_scenario(about, plugins, trust=trust, where=path)
    plugins = scenario.plugins(plugins)
    params = from_dict(applied_params_class(scenario.cls.params_class), about["params"], plugins, origin=str(path))
    return scenario.cls(params)


def read_predictions(path: str | Path, *, trust: bool = False) -> tuple[Scenario, Iterator[Prediction]]:
    """Read the predictions in a file of `aip lav --dump` or `aip predict --output`, `.npz` or `.parquet`.

    Args:
        path: path of the file.
        trust: if True, import a scenario that is not an installed plugin.

    Returns:
        the scenario, with the parameters that the model was applied with, and the predictions in the order of the file.

    Raises:
        UsageError: the file has another format, or its scenario is not installed or not trusted.
    """
    stored = read_stored(Path(path))
    scenario = scenario_of_stored(stored, Path(path), get_plugin_manager(), trust=trust)
    return scenario, _predictions(stored, scenario)


def _predictions(stored: Stored, scenario: Scenario) -> Iterator[Prediction]:
    from aipcore.prediction.predictor import Prediction

    post = as_post_processors(scenario.post_processors(), f"{type(scenario).__name__}.post_processors()")
    groups = {name: stored.group(name) for name in ("predictions", "outputs", "targets", "masks")}
    for row, text in enumerate(stored.meta):
        values = {group: {name: column[row] for name, column in found.items()} for group, found in groups.items()}
        meta, raw, masks = json.loads(text) if text else None, values["outputs"], values["masks"]
        # aip lav stores only the outputs of the model.
        outputs = {name: value.item() if value.ndim == 0 else value for name, value in values["predictions"].items()}
        if not outputs:
            outputs = {name: cut_masked_end(value, masks.get(name)) for name, value in raw.items()}
            with author_errors():
                outputs = post_process(post, outputs, meta, mode=Mode.EVALUATION) if post else outputs
        yield Prediction(
            index=stored.index[row],
            outputs=outputs,
            raw=raw,
            meta=meta,
            targets=values["targets"] or None,
            batch=stored.batch[row],
            masks=masks,
        )
