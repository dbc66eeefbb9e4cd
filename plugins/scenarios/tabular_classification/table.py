"""Tables: CSV and Parquet files as columns of numbers and texts."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from aip_plugins.scenarios.tabular_classification.params import SUFFIXES

from aipcore.errors import DataError, UsageError
from aipcore.files import open_regular, read_limit
from aipcore.params import one_of
from aipcore.scenario import read_columns

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}

Array = npt.NDArray[Any]


@attrs.frozen(eq=False)
class Table:
    """The columns of one or more files.

    Attributes:
        title: the name of the files in errors.
        columns: by name, float64 of shape [rows] in which NaN is a missing value, or strings (objects) of shape [rows]
            in which "" is one.
        names: the names of all columns of the files, with those that were not read.
    """

    title: str
    columns: dict[str, Array]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def known(self, name: str) -> set[Any]:
        """Return the different values of a column, without missing ones."""
        column = self.columns[name]
        return set(column[~np.isnan(column)].tolist()) if column.dtype != object else set(column) - {""}

    def texts(self, name: str) -> Array:
        """Return a column as strings; missing values are ""."""
        column = self.columns[name]
        return column if column.dtype == object else _mapped(column, _text_of, object)

    def flags(self, name: str) -> Array:
        """Return a boolean column as the strings "true", "false" and, for missing values, ""."""
        return _mapped(self.texts(name), str.casefold, object)

    def numbers(self, name: str) -> npt.NDArray[np.float32]:
        """Return a column as numbers; missing values are NaN.

        Raises:
            DataError: a value is not a finite number.
        """
        column = self.columns[name]
        values = column if column.dtype != object else _mapped(column, _number_of, np.float64)
        with np.errstate(over="ignore"):
            made = values.astype(np.float32)
        wrong = np.isinf(made)
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"{self.title}, row {row + 1}: {name} is {column.tolist()[row]!r}, which is not a finite number of "
                "float32. Correct the value. If it stands for a missing one, add it to --data.missing."
            )
        return made


def is_number(text: str) -> bool:
    """Return True if a text is a finite number."""
    return math.isfinite(_number_of(text))


def _number_of(text: str) -> float:
    """Return the number that a text stands for: NaN for a missing one, infinity for another text."""
    if not text:
        return math.nan
    try:
        # Python accepts 1_000.
        number = math.inf if "_" in text else float(text)
    except ValueError:
        return math.inf
    return math.inf if math.isnan(number) else number


def _text_of(number: float) -> str:
    if math.isnan(number):
        return ""
    return str(int(number)) if number.is_integer() else str(number)


def _mapped(column: Array, convert: Any, dtype: Any) -> Array:
    """Return a column with its values converted, each different value once."""
    values = column.tolist()
    found = {value: convert(value) for value in dict.fromkeys(values)}
    return np.array([found[value] for value in values], dtype)


def read_table(
    files: Sequence[Path],
    separator: str,
    missing: Collection[str],
    columns: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> Table:
    """Read a table.

    Args:
        files: files with the same columns, whose rows are joined. All are CSV files, or all are Parquet files.
        separator: name of the character between two columns of a CSV file, see `SEPARATORS`.
        missing: cells that count as missing. White space around cells is removed.
        columns: the columns to read; by default all except `ignore`.
        ignore: columns that are not read, and need not exist.

    Raises:
        DataError: a file cannot be read, has no rows, or lacks a column.
    """
    suffixes = {path.suffix.lower() for path in files}
    if wrong := [path for path in files if path.suffix.lower() not in SUFFIXES]:
        raise DataError(f"{wrong[0]} is not a table. Give files that end in {one_of(SUFFIXES)}.")
    if len(suffixes) > 1:
        raise DataError(
            f"{files[0]} and other files are of different types. Give CSV files only or Parquet files only."
        )
    try:
        stamps = tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in files)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}). Check the path.") from error
    return _read(stamps, SEPARATORS[separator], frozenset(missing), tuple(columns), tuple(ignore))


# A run reads its tables several times: when it is checked, for the names of classes, for training and for validation.
@lru_cache(maxsize=2)
def _read(
    stamps: tuple[tuple[Path, int, int], ...],
    separator: str,
    missing: frozenset[str],
    columns: tuple[str, ...],
    ignore: tuple[str, ...],
) -> Table:
    files = [path for path, _, _ in stamps]
    title = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    if files[0].suffix.lower() == ".parquet":
        found, names = _parquet(files, columns, ignore)
    else:
        found = read_columns(files, dict.fromkeys(columns, object) if columns else None, separator=separator)
        names = tuple(found)
    for name in set(ignore) & set(found):
        del found[name]

    def cleaned(text: str) -> str:
        return "" if (bare := text.strip()) in missing else bare

    table = Table(
        title,
        {name: _mapped(each, cleaned, object) if each.dtype == object else each for name, each in found.items()},
        names,
    )
    if not len(table):
        raise DataError(f"{title} has no rows. Use a file with a line of column names and one line for each row.")
    return table


def _parquet(
    files: Sequence[Path], columns: Sequence[str], ignore: Sequence[str]
) -> tuple[dict[str, Array], tuple[str, ...]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(
            f"{files[0]} cannot be read: Parquet files need the package pyarrow. Install aipcore[parquet], or use a "
            "CSV file."
        ) from error
    parts: list[Any] = []
    for path in files:
        try:
            with open_regular(path, limit=read_limit()) as file:
                part = parquet.ParquetFile(file).read()
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"{path} is not a readable Parquet file ({error}). Use another file.") from error
        wanted = columns or (parts[0] if parts else part).column_names
        if lacking := [name for name in wanted if name not in part.column_names]:
            raise DataError(
                f"{path} does not have the column {lacking[0]!r}; its columns: {', '.join(part.column_names)}."
            )
        if twice := [name for name in wanted if part.column_names.count(name) > 1]:
            raise DataError(f"{path} has several columns with the name {twice[0]}. Rename all but one.")
        parts.append(part.select(list(wanted)))
    try:
        table = pyarrow.concat_tables(parts, promote_options="permissive")
    except pyarrow.ArrowException as error:
        raise DataError(
            f"{files[0]} and other files cannot be joined ({error}). Store each column with one type in all files."
        ) from error
    read = [name for name in table.column_names if name not in ignore]
    return {name: _arrow_column(name, table[name], files[0]) for name in read}, tuple(table.column_names)


def _arrow_column(name: str, column: Any, path: Path) -> Array:
    import pyarrow
    from pyarrow import types

    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    texts = (types.is_string, types.is_large_string, types.is_string_view, types.is_boolean)
    text = any(test(kind) for test in texts)
    numbers = (types.is_integer, types.is_floating, types.is_decimal, types.is_null)
    if not text and not any(test(kind) for test in numbers):
        raise DataError(
            f"{path}: the column {name} is of type {kind}. Leave it out with --data.ignore {name}, or store it as "
            "numbers, text or booleans."
        )
    column = column.cast(kind)
    try:
        column = column.cast(pyarrow.string() if text else pyarrow.float64())
    except pyarrow.ArrowInvalid:
        # Integers beyond 2**53, such as ids, differ as texts only.
        column, text = column.cast(pyarrow.string()), True
    if text:
        return np.array(column.fill_null("").to_pylist(), object)
    return np.asarray(column.to_numpy(), np.float64)
