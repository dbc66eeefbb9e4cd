"""CSV files with named columns as arrays, for scenarios whose inputs are columns of a table."""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aipcore.errors import DataError
from aipcore.files import open_regular, read_limit
from aipcore.params.names import nearest, one_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def read_columns(
    paths: Path | Sequence[Path], dtypes: Mapping[str, Any] | None, *, separator: str = ","
) -> dict[str, npt.NDArray[Any]]:
    """Read columns of CSV files. The first line of each file has the names of its columns; other columns are ignored.

    Args:
        paths: one or more UTF-8 files, whose rows are joined in this order.
        dtypes: dtype of each column to read, by name: floats, integers, `str`, or `object` for strings that are not
            padded to the longest one. None: all columns of the first file, as objects.
        separator: character between two columns.

    Returns:
        an array of shape [rows] for each column, in the order of `dtypes`.

    Raises:
        DataError: a file cannot be read, lacks a column, or a value does not have the dtype of its column. The message
            names the file, the line and the column.
    """
    import numpy as np

    kinds: Mapping[str, np.dtype[Any]] | None = None
    if dtypes is not None:
        kinds = {name: np.dtype(dtype) for name, dtype in dtypes.items()}
    for name, kind in (kinds or {}).items():
        if kind.kind not in "fiuUO":
            raise DataError(f"The column {name} has the dtype {kind}. read_columns reads floats, integers and str.")
    values: dict[str, list[Any]] = defaultdict(list)
    for path in [paths] if isinstance(paths, Path) else paths:
        kinds = _read(path, kinds, values, separator)
    return {name: np.array(values[name], kind) for name, kind in (kinds or {}).items()}


def _read(
    path: Path, kinds: Mapping[str, np.dtype[Any]] | None, values: dict[str, list[Any]], separator: str
) -> Mapping[str, np.dtype[Any]]:
    import numpy as np

    try:
        with open_regular(path, limit=read_limit()) as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
            lines = csv.reader(text, delimiter=separator, strict=True)
            header = next(lines, [])
            if kinds is None:
                kinds = {name.strip(): np.dtype(object) for name in header}
            places = {name: _place(path, header, name) for name in kinds}
            for row in lines:
                if not row:
                    continue
                where = f"{path}, line {lines.line_num}"
                if len(row) != len(header):
                    advice = "Correct the line." if len(header) > 1 else f"Is {separator!r} the separator?"
                    raise DataError(f"{where} has {len(row)} columns instead of {len(header)}. {advice}")
                for name, kind in kinds.items():
                    values[name].append(_value(row[places[name]], kind, f"{where}: {name}"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). Check the path.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8 ({error}). Use another file.") from error
    return kinds


def _place(path: Path, header: Sequence[str], name: str) -> int:
    found = [place for place, each in enumerate(header) if each.strip() == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"{path} has {len(found)} columns with the name {name}. Rename all but one.")
    near = nearest(name, header)
    hint = f"did you mean {one_of(near)}?" if near else f"its columns: {', '.join(header) or 'none'}."
    raise DataError(f"{path} does not have the column {name!r}; {hint} The first line must name the columns.")


def _value(text: str, kind: np.dtype[Any], where: str) -> Any:
    if kind.kind in "UO":
        return text
    import numpy as np

    try:
        if "_" in text:  # Python accepts 1_000.
            raise ValueError
        value: Any = float(text) if kind.kind == "f" else int(text)
    except ValueError:
        raise DataError(f"{where} is {text!r}, which is not a number of the type {kind}. Correct the value.") from None
    number = float if kind.kind == "f" else int
    limits: Any = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    # NaN and infinity are values of floats.
    if (kind.kind != "f" or math.isfinite(value)) and not number(limits.min) <= value <= number(limits.max):
        raise DataError(f"{where} is {value}, which is outside the range of {kind}. Correct the value.")
    return value
